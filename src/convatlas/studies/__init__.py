"""What the lecture and its sources claim: as data, and computed from the networks themselves. What is drawn from it stands elsewhere."""
