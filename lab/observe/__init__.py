"""What is seen from outside of the target: processes, cores, the machine, probes, the bystander."""
