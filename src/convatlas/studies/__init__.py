"""What the lecture and the papers claim, computed from the networks themselves: each study is a function that returns a result."""
