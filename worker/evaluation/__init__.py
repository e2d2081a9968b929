"""How good a bank is: figures, masks, report, and `probe`, which asks whether a set can tell at all."""
