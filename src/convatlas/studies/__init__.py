"""The lecture's figures, as data with their sources; what is computed or drawn from them stands elsewhere."""
