"""The page of one day: queries, charts and templates.

Nothing heavy is imported here: import `workflows.report.page` where a page is really rendered.
"""
