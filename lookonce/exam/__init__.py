"""Exams: a detector or classifier, a dataset, a protocol; its answers and the figures out."""

from lookonce.exam.choosing import boxed_in, by_boxes, chosen_classes
from lookonce.exam.classifying import ClassExam
from lookonce.exam.exam import PROTOCOLS, Exam, Protocol, usual_protocol
from lookonce.exam.judgement import Judgement
from lookonce.exam.reporting import kinds_of_errors, reported

__all__ = [
    "PROTOCOLS",
    "ClassExam",
    "Exam",
    "Judgement",
    "Protocol",
    "boxed_in",
    "by_boxes",
    "chosen_classes",
    "kinds_of_errors",
    "reported",
    "usual_protocol",
]
