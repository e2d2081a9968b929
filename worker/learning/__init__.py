"""A line learns from the people beside it: what they say of results becomes a new bank, which loses no defect."""
