"""How well the daemon's own stages recognise, in the terms of ISO/IEC 19795-1."""
