# image_ate called from R gives Python's numbers. Run: Rscript test_image_ate.R <python> <folder>
arguments <- commandArgs(trailingOnly = TRUE)
suppressPackageStartupMessages(library(reticulate))
use_python(arguments[1], required = TRUE)
folder <- arguments[2]
cs <- import("causalsat")
source(cs$r_companion_path())

# R's own decimal reader may differ in the last bit; colClasses keeps text until as.numeric rounds it correctly.
df <- read.csv(file.path(folder, "data.csv"), stringsAsFactors = FALSE)
shape <- jsonlite::fromJSON(file.path(folder, "shape.json"))
m <- matrix(readBin(file.path(folder, "embeddings.bin"), "double", prod(shape), size = 8, endian = "little"),
            nrow = shape[1])
result <- cs$image_ate(causalsat_data(df), outcome = "y", treatment = "w", covariates = c("x1", "x2"),
                       embeddings = causalsat_matrix(m), cluster = "village", seed = 3L)
ours <- as.data.frame(result)
theirs <- jsonlite::fromJSON(file.path(folder, "python.json"))
stopifnot(identical(names(ours), names(theirs)))
for (name in names(ours)) {
  if (is.character(ours[[name]])) {
    same <- identical(ours[[name]], theirs[[name]])
  } else {
    a <- as.numeric(ours[[name]])
    b <- as.numeric(theirs[[name]])
    # Both sides read decimal text (CSV, JSON), so the last bits of the inputs may differ.
    same <- identical(is.na(a), is.na(b)) && all(abs(a - b) <= 1e-7 * pmax(1, abs(b)), na.rm = TRUE)
  }
  if (!same) stop(sprintf("%s differs: %s | %s", name, toString(ours[[name]]), toString(theirs[[name]])))
}
stopifnot(nrow(tidy.causalsat.EffectTable(result)) == nrow(ours), nrow(generics::glance(result)) == 1)
cat("image_ate agrees\n")
