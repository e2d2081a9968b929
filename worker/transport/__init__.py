"""Transports: one interface (`base`), one file for each way frames come in and outcomes go out."""
