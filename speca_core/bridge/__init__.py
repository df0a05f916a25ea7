"""Between the algorithm and ComfyUI: the only package besides `nodes` that imports comfy."""
