"""The lab measured by itself: apps whose behaviour is known exactly, and what the lab says about them."""
