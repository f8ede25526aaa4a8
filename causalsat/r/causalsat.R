# causalsat from R: source(cs$r_companion_path()) after cs <- reticulate::import("causalsat").
#
# S3 methods (tidy, glance, as.data.frame, print, plot) for effect tables and for every result that holds one,
# and the helpers causalsat_data(), causalsat_matrix(), causalsat_draws(), as_modelsummary().

.causalsat_classes <- c("EffectTable", "AteResult", "CateResult", "TypesResult", "DriveResult", "DebiasResult",
                        "R3dResult", "PanelResult")
.causalsat_text <- c("term")
.causalsat_dotted <- c(std_error = "std.error", p_value = "p.value", conf_low = "conf.low", conf_high = "conf.high",
                       band_low = "band.low", band_high = "band.high", p_adjusted = "p.adjusted", n_obs = "n.obs",
                       statistic_name = "statistic.name")

.causalsat_table <- function(x) if (inherits(x, "causalsat.EffectTable")) x else x$table

# A column arrives as a vector, or as a list when it is empty or mixes kinds.
.causalsat_column <- function(name, value) {
  if (!is.list(value)) return(as.vector(value))
  if (length(value) == 0) return(if (name %in% .causalsat_text) character(0) else numeric(0))
  unlist(lapply(value, function(v) if (is.null(v)) NA else v))
}

as.data.frame.causalsat.EffectTable <- function(x, row.names = NULL, optional = FALSE, ...) {
  columns <- .causalsat_table(x)$to_dict()
  columns <- Map(.causalsat_column, names(columns), columns)
  as.data.frame(columns, row.names = row.names, optional = TRUE, stringsAsFactors = FALSE)
}

tidy.causalsat.EffectTable <- function(x, ...) {
  out <- as.data.frame.causalsat.EffectTable(x)
  known <- names(out) %in% names(.causalsat_dotted)
  names(out)[known] <- unname(.causalsat_dotted[names(out)[known]])
  out
}

.causalsat_fact <- function(meta, name, default) {
  value <- meta[[name]]
  if (is.null(value) || length(value) == 0) default else value
}

glance.causalsat.EffectTable <- function(x, ...) {
  table <- .causalsat_table(x)
  meta <- table$meta
  counts <- .causalsat_column("n_obs", table$to_dict()$n_obs)
  data.frame(
    nobs = if (length(counts)) max(counts) else 0,
    estimator = paste(.causalsat_fact(meta, "estimator", ""), collapse = ", "),
    level = .causalsat_fact(meta, "level", NA_real_),
    interval = .causalsat_fact(meta, "interval", ""),
    n_boot = .causalsat_fact(meta, "n_boot", 0),
    n_failed = sum(as.numeric(unlist(.causalsat_fact(meta, "n_failed", 0)))),
    n_clusters = as.numeric(unlist(.causalsat_fact(meta, "n_clusters", NA_real_)))[1],
    stringsAsFactors = FALSE
  )
}

# Python's warnings reach R as text on stderr; the same facts stand in meta and become R warnings here.
.causalsat_warn <- function(table) {
  for (text in unlist(table$meta$warnings)) warning(text, call. = FALSE)
}

print.causalsat.EffectTable <- function(x, ...) {
  table <- .causalsat_table(x)
  cat(table$summary(), "\n", sep = "")
  .causalsat_warn(table)
  invisible(x)
}

plot.causalsat.EffectTable <- function(x, xlab = "estimate", ...) {
  table <- .causalsat_table(x)
  d <- as.data.frame.causalsat.EffectTable(table)
  labels <- unlist(table$labels)
  y <- rev(seq_len(nrow(d)))
  old <- graphics::par(mar = c(5, max(4, 0.6 * max(nchar(labels))), 2, 1))
  on.exit(graphics::par(old))
  ends <- c(d$estimate, d$conf_low, d$conf_high, d$band_low, d$band_high, 0)
  graphics::plot(d$estimate, y, xlim = range(ends[is.finite(ends)]), ylim = c(0.5, nrow(d) + 0.5), pch = 19,
                 yaxt = "n", ylab = "", xlab = xlab, ...)
  graphics::axis(2, at = y, labels = labels, las = 1)
  graphics::abline(v = 0, col = "grey60")
  if (!is.null(d$band_low)) graphics::segments(d$band_low, y, d$band_high, y)
  graphics::segments(d$conf_low, y, d$conf_high, y, lwd = 3)
  invisible(x)
}

# What modelsummary reads: a tidy frame (term, estimate, std.error, ...) and a one-row glance.
as_modelsummary <- function(x) {
  structure(list(tidy = tidy.causalsat.EffectTable(x), glance = glance.causalsat.EffectTable(x)),
            class = "modelsummary_list")
}

# A data frame that crosses to Python unharmed: reticulate turns a logical NA into TRUE, an integer NA into
# -2147483648 and a text NA into "NA".
causalsat_data <- function(df, geometry = c("drop", "lonlat")) {
  geometry <- match.arg(geometry)
  if (inherits(df, "sf")) {
    where <- NULL
    if (geometry == "lonlat") {
      where <- sf::st_coordinates(sf::st_centroid(sf::st_geometry(sf::st_transform(df, 4326))))
    }
    df <- sf::st_drop_geometry(df)
    if (!is.null(where)) df[c("longitude", "latitude")] <- list(where[, 1], where[, 2])
  }
  df <- as.data.frame(df, stringsAsFactors = FALSE)
  for (name in names(df)) df[[name]] <- .causalsat_safe(name, df[[name]])
  row.names(df) <- NULL
  df
}

.causalsat_safe <- function(name, x) {
  if (inherits(x, "POSIXct")) return(.causalsat_safe(name, format(x, "%Y-%m-%dT%H:%M:%SZ", tz = "UTC")))
  if (inherits(x, "difftime")) stop(sprintf("Column '%s' is a difftime; use as.numeric(x, units = \"days\").", name))
  if (is.factor(x)) x <- as.character(x)
  if (is.character(x) && anyNA(x)) {
    stop(sprintf("Column '%s' has %d missing texts (NA), which would arrive as the text \"NA\"; remove or name them.",
                 name, sum(is.na(x))), call. = FALSE)
  }
  if ((is.logical(x) || (is.integer(x) && !inherits(x, "Date"))) && anyNA(x)) return(as.numeric(x))
  x
}

# A numeric matrix for Python: handed over directly where the NumPy versions fit, as bytes elsewhere.
causalsat_matrix <- function(m) {
  m <- as.matrix(m)
  if (!is.numeric(m) && !is.logical(m)) stop("causalsat_matrix() needs numbers.", call. = FALSE)
  storage.mode(m) <- "double"
  direct <- tryCatch(reticulate::r_to_py(m, convert = FALSE), error = function(e) NULL)
  if (!is.null(direct)) return(direct)
  interop <- reticulate::import("causalsat.interop.r", convert = FALSE)
  interop$matrix_from_bytes(writeBin(as.vector(m), raw(), size = 8, endian = "little"), as.list(as.numeric(dim(m))))
}

# A Python matrix (or list(data, shape)) as an R matrix, bit for bit.
causalsat_as_matrix <- function(x) {
  if (is.null(x)) return(NULL)
  if (is.matrix(x)) return(x)
  if (!is.list(x)) x <- reticulate::import("causalsat.interop.r")$plain(x)
  shape <- as.numeric(unlist(x$shape))
  matrix(readBin(as.raw(x$data), "double", n = prod(shape), size = 8, endian = "little"), nrow = shape[1])
}

# The bootstrap draws of a table: one row per draw, one column per effect.
causalsat_draws <- function(x) {
  table <- .causalsat_table(x)
  raw <- reticulate::import("causalsat.interop.r")$draws_of(table)
  out <- causalsat_as_matrix(raw)
  if (!is.null(out)) colnames(out) <- unlist(table$labels)
  out
}

local({
  here <- environment(tidy.causalsat.EffectTable)
  for (class in .causalsat_classes) {
    name <- paste0("causalsat.", class)
    registerS3method("as.data.frame", name, here$as.data.frame.causalsat.EffectTable, envir = asNamespace("base"))
    registerS3method("print", name, here$print.causalsat.EffectTable, envir = asNamespace("base"))
    registerS3method("plot", name, here$plot.causalsat.EffectTable, envir = asNamespace("graphics"))
    if (requireNamespace("generics", quietly = TRUE)) {
      registerS3method("tidy", name, here$tidy.causalsat.EffectTable, envir = asNamespace("generics"))
      registerS3method("glance", name, here$glance.causalsat.EffectTable, envir = asNamespace("generics"))
    }
  }
})
