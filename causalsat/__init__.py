"""causalsat"""
