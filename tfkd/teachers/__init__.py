"""Where knowledge comes from: teachers that are asked in every step, and stored answers."""

from tfkd.teachers.callables import CallableTeacher
from tfkd.teachers.ensemble import Ensemble
from tfkd.teachers.given import source_of as source_of
from tfkd.teachers.intervention import Intervention
from tfkd.teachers.learning import Learning
from tfkd.teachers.live import LiveTeacher
from tfkd.teachers.source import Source
from tfkd.teachers.two_views import TwoViews

__all__ = [
    "CallableTeacher",
    "Ensemble",
    "Intervention",
    "Learning",
    "LiveTeacher",
    "Source",
    "TwoViews",
]
