"""A question and a view to an outcome: Answer, NoData, NxDomain, Fail, Refused or NotOurs."""
