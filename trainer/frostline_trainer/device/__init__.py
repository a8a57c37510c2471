"""The device's memory: measured, limited, and tracked on a CPU as a GPU would count it."""
