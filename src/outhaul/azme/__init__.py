"""The door for clients of the Mobile Engagement REST API 2014-12-01: exports, devices, and what leads to them.

request ─▶ door ─▶ auth ─▶ route ─▶ resources | exports | devices ─▶ reply
             └──▶ tokens (no token is needed to ask for one)
"""
