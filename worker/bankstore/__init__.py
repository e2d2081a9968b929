"""Bank stores: one interface (`base`), one file for each place that keeps banks."""
