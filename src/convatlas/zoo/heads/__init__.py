"""Modules that a model folder can hold besides the networks themselves."""
