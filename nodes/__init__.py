"""All that knows ComfyUI: the nodes, one file each, and `runtime/`, which runs them."""
