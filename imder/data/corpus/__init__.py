"""The bundled corpus: spoken opinions that are written, spoken and acted by a program, from one seed."""
