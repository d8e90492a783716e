"""Recipes: functions that train a network from data to files, each with its command, hardware, time and result in its docstring."""
