# drive called from R gives Python's numbers. Run: Rscript test_drive.R <python> <folder>
arguments <- commandArgs(trailingOnly = TRUE)
suppressPackageStartupMessages(library(reticulate))
use_python(arguments[1], required = TRUE)
folder <- arguments[2]
cs <- import("causalsat")
source(cs$r_companion_path())

df <- read.csv(file.path(folder, "data.csv"), stringsAsFactors = FALSE)
result <- cs$drive(causalsat_data(df), outcome = "y", treatment = "x", instruments = c("z1", "z2", "z3"),
                   n_boot = 199L, seed = 3L)
ours <- as.data.frame(result)
theirs <- jsonlite::fromJSON(file.path(folder, "python.json"))
stopifnot(identical(names(ours), names(theirs)))
for (name in names(ours)) {
  if (is.character(ours[[name]])) {
    same <- identical(ours[[name]], theirs[[name]])
  } else {
    a <- as.numeric(ours[[name]])
    b <- as.numeric(theirs[[name]])
    same <- identical(is.na(a), is.na(b)) && all(abs(a - b) <= 1e-7 * pmax(1, abs(b)), na.rm = TRUE)
  }
  if (!same) stop(sprintf("%s differs: %s | %s", name, toString(ours[[name]]), toString(theirs[[name]])))
}
stopifnot(nrow(tidy.causalsat.EffectTable(result)) == nrow(ours), grepl("rho", result$summary()))
cat("drive agrees\n")
