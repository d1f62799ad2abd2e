"""What a fault did, from the log of requests around it: who failed, how long nothing was answered, how soon all was well again, and whether that
is as it must be."""

from collections import Counter
from dataclasses import asdict, dataclass

# Longest time without an answer to requests that the fault has nothing to do with.
GAP_SECONDS = 5
# Fewer answers say nothing.
ANSWERS_MIN = 20


@dataclass
class Verdict:
    fault: str
    requests: int
    # Answers other than success, by what they were.
    failed: dict
    # Of requests to groups that the fault leaves alone; to all where it leaves none alone.
    gap_seconds: float
    recovery_seconds: float
    recovery_seconds_max: float
    # What is wrong with what is stored.
    lost: list
    problems: list

    def as_json(self):
        return asdict(self)


def judge(fault, groups, requests, began, back, lost, wrong):
    """`requests` since the fault `began`; `back` is when what it needs served again."""
    touched = groups if fault.groups is None else fault.groups
    apart = groups if fault.groups is None else groups - fault.groups
    failed = [one for one in requests if not one.ok]
    stray = [one for one in failed if not (one.groups & touched and one.answer in fault.allowed)]
    since = back if fault.back else began
    recovery = recovered(requests, touched, since)
    gap = max((longest_gap(requests, group, began) for group in apart), default=0.0)
    problems = [f"{count} failed that may not: {kind} answered {answer}" for (kind, answer), count in
                Counter((one.kind, one.answer) for one in stray).items()]
    if recovery is None:
        problems.append("some requests are still failing")
    elif recovery > fault.recovery_seconds:
        problems.append(f"recovery took {recovery:.1f} s, more than {fault.recovery_seconds} s")
    if fault.groups is not None and gap > GAP_SECONDS:
        problems.append(f"no answer for {gap:.1f} s from groups that have nothing to do with it")
    if fault.failed_max is not None and len(failed) > fault.failed_max:
        problems.append(f"{len(failed)} failed, more than the {fault.failed_max} that can have been under way")
    if fault.must_show and not failed:
        problems.append("no request failed: the fault was not there")
    for group in sorted(groups):
        answered = sum(one.ok and one.groups == {group} for one in requests)
        if answered < ANSWERS_MIN:
            problems.append(f"{answered} requests of {group} were answered: too few to tell")
    problems += [f"{finding.kind}: {finding.id}: {finding.detail}" for finding in lost] + [f"wrong answer: {one}" for one in wrong]
    answers = dict(Counter(f"{one.kind} {one.answer}" for one in failed))
    return Verdict(fault.name, len(requests), answers, gap, recovery, fault.recovery_seconds, [asdict(one) for one in lost], problems)


def recovered(requests, groups, since):
    """Seconds from `since` to when each of the groups has been answered after its last request that failed; 0 where that was before, None if one
    never was."""
    latest = since
    for group in groups:
        of_group = [one for one in requests if group in one.groups]
        last = max((one.began for one in of_group if not one.ok), default=None)
        if last is None:
            continue
        after = [one.ended for one in of_group if one.ok and one.began >= last]
        if not after:
            return None
        latest = max(latest, min(after))
    return latest - since


def longest_gap(requests, group, began):
    """Longest time, from `began` to the last request of all, in which none to this group alone was answered."""
    end = max((one.ended for one in requests), default=float("inf"))
    times = [began, *sorted(one.ended for one in requests if one.ok and one.groups == {group}), end]
    return max(later - earlier for earlier, later in zip(times, times[1:]))
