"""Inside the model: stand-ins for its blocks, and what a pass does with them."""
