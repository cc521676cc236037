//! Functions against the bounds, the sandbox and the surface.
