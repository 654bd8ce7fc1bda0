"""The report: the paper's tables, curves, paired differences and the reproduction log, made from stored rows."""
