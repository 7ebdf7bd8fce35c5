"""Content by its digest, of files and artifacts. Bytes first, row second: no row points to nothing."""
