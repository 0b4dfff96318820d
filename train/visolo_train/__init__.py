"""Training. Only the clip forward that it stands on exists so far: ``visolo_core.nn.Visolo``."""
