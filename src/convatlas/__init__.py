"""ConvAtlas."""
