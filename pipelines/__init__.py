"""Who runs what: the build engine, its checks, and the command line. Only wiring; arithmetic is in synth and recon."""
