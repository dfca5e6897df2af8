"""How recall is measured: ground truth, trials, calibration, the live audit and tier reports."""
