"""Between the algorithm and ComfyUI: all that knows how ComfyUI runs a model and shows a page."""
