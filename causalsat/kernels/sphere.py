"""Constants of distances on the sphere, shared by the kernels and by the code that prepares their inputs."""

EARTH_RADIUS_KM = 6371.01
# Points per tile: part of the definition of a sum's last bits.
TILE = 128
# Rounding of a chord between unit vectors in float64 (six nanometres on the Earth): "inclusive" means up to this.
CHORD_ROUNDING = 1e-15
