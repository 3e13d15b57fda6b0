"""The files of the history: their form, and how commands and workers read them. `dnstrail history` writes them."""
