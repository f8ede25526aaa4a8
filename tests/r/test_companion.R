# The companion script against a table built from R. Run: Rscript test_companion.R <python>
python <- commandArgs(trailingOnly = TRUE)[1]
suppressPackageStartupMessages(library(reticulate))
use_python(python, required = TRUE)
cs <- import("causalsat")
source(cs$r_companion_path())
interop <- import("causalsat.interop.r")

check <- function(what, condition) {
  if (!isTRUE(condition)) stop("FAILED: ", what, call. = FALSE)
  cat("ok:", what, "\n")
}
fails <- function(expression, pattern) {
  message <- tryCatch({ force(expression); "" }, error = function(e) conditionMessage(e))
  grepl(pattern, message)
}

# Numbers with no short decimal form, so that equality below means bit equality.
estimate <- c(1 / 3, -sqrt(2), 0.1)
variance <- c(2, 3, 5) / 70
draws <- lapply(1:199, function(i) as.list(estimate + sin(i * c(1, 2, 3)) / 10))
table <- cs$EffectTable$build(
  dict(adjust = c("none", "image", "both"), horizon = c(1L, 1L, 2L)),
  term = "road", estimate = estimate, std_error = sqrt(variance), n_obs = 4e9, draws = draws,
  unavailable = NULL,
  meta = list(estimator = "image_ate", n_boot = 199, n_failed = 0L, n_clusters = 17L, warnings = list("one thing"))
)
check("class", inherits(table, "causalsat.EffectTable"))
check("length", length(table) == 3)

d <- as.data.frame(table)
check("columns", identical(names(d), c("adjust", "horizon", "term", "estimate", "std_error", "statistic", "p_value",
                                       "conf_low", "conf_high", "n_obs")))
check("estimates are bit equal", identical(d$estimate, estimate))
check("standard errors are bit equal", identical(d$std_error, sqrt(variance)))
check("counts beyond 2^31 survive", identical(d$n_obs, rep(4e9, 3)))
check("text is text", is.character(d$adjust) && is.character(d$term))
z <- qnorm(0.975)
check("normal interval", all(abs(d$conf_low - (estimate - z * sqrt(variance))) < 1e-12))

t <- generics::tidy(table)
check("tidy names", all(c("term", "estimate", "std.error", "statistic", "p.value", "conf.low", "conf.high")
                        %in% names(t)))
check("tidy keeps the index", identical(t$adjust, c("none", "image", "both")))
if (requireNamespace("broom", quietly = TRUE)) check("broom's generic", identical(broom::tidy(table), t))
g <- generics::glance(table)
check("glance is one row", nrow(g) == 1)
check("glance facts", g$nobs == 4e9 && g$estimator == "image_ate" && g$level == 0.95 && g$n_boot == 199 &&
        g$n_failed == 0 && g$n_clusters == 17)
m <- as_modelsummary(table)
check("modelsummary_list", inherits(m, "modelsummary_list") && identical(names(m), c("tidy", "glance")))
check("modelsummary columns", all(c("term", "estimate", "std.error") %in% names(m$tidy)) && nrow(m$glance) == 1)

told <- character(0)
text <- capture.output(withCallingHandlers(print(table), warning = function(w) {
  told <<- c(told, conditionMessage(w))
  invokeRestart("muffleWarning")
}))
check("print shows the table", any(grepl("image_ate", text)) && any(grepl("both", text)))
check("print repeats the warnings of meta", identical(told, "one thing"))

one <- table$row(adjust = "image")
check("a row", identical(one$estimate, estimate[2]) && identical(one$adjust, "image"))
check("another level", all(as.data.frame(table$interval(level = 0.9))$conf_low > d$conf_low))
contrast <- as.data.frame(table$contrast("b1 - b0"))
check("a contrast", abs(contrast$estimate - (estimate[2] - estimate[1])) < 1e-15)
check("its standard error comes from the draws",
      abs(contrast$std_error - sd(sapply(draws, function(r) r[[2]] - r[[1]]))) < 1e-12)

b <- causalsat_draws(table)
check("draws", identical(dim(b), c(199L, 3L)) && identical(unname(b[7, ]), unlist(draws[[7]])))
x <- matrix(c(pi, exp(1), -0.0, 1e-308, 1 / 3, 12345678.9), nrow = 2)
there <- causalsat_matrix(x)
back <- causalsat_as_matrix(interop$plain(there))
check("matrix there and back, bit for bit", identical(writeBin(as.vector(back), raw()), writeBin(as.vector(x), raw())))
check("matrix shape", identical(dim(back), dim(x)))
by_bytes <- interop$matrix_from_bytes(writeBin(as.vector(x), raw(), size = 8, endian = "little"), list(2, 3))
check("bytes route", identical(causalsat_as_matrix(interop$plain(by_bytes)), x))
check("a wrong shape is named", fails(interop$matrix_from_bytes(raw(8), list(2, 2)), "8 bytes"))

check("missing integer trap", fails(interop$whole_numbers("folds", list(1L, NA_integer_)), "NA_integer_.*as.numeric"))
check("missing integer as a count", fails(cs$Bootstrap(n = NA_integer_), "missing integer|at least 1"))
check("200.5 is no count", fails(cs$Bootstrap(n = 200.5), "whole number"))
check("200 is a count", cs$Bootstrap(n = 200)$n == 200)

df <- data.frame(l = c(TRUE, NA), i = c(1L, NA), x = c(1.5, NA), f = factor(c("a", "b")),
                 t = as.POSIXct(c(0, 86400), origin = "1970-01-01", tz = "UTC"))
safe <- causalsat_data(df)
check("logical NA becomes NaN", is.numeric(safe$l) && is.na(safe$l[2]) && safe$l[1] == 1)
check("integer NA becomes NaN", is.double(safe$i) && is.na(safe$i[2]))
check("factor becomes text", identical(safe$f, c("a", "b")))
check("POSIXct becomes ISO text", identical(safe$t, c("1970-01-01T00:00:00Z", "1970-01-02T00:00:00Z")))
check("NA in text is refused by name", fails(causalsat_data(data.frame(region = c("a", NA))), "region.*1 missing"))

grDevices::pdf(NULL)
plot(table)
invisible(grDevices::dev.off())
check("plot", TRUE)
cat("all companion checks passed\n")
