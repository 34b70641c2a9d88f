"""The page of scored digits: query, charts and template.

Nothing heavy is imported here: import `workflows.digit_report.page` where a page is really rendered.
"""
