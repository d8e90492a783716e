"""Any network's costs, as pure functions of one recorded forward pass. Imports torch only, never the zoo."""
