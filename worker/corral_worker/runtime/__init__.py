"""What the OCI runtime needs and says: command lines, bundles, root file systems, cgroups, errors. Nothing is run here."""
