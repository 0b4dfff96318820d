"""Where frames come from, how they are resized and drawn on, and where results go."""
