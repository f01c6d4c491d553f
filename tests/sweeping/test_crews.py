"""Who of a cluster works: workers that come, go, are of another kind, and what is told of them."""

from __future__ import annotations

from concurrent.futures import Future
from types import SimpleNamespace

import pytest
from twinkeel.pipeline.config import Config
from twinkeel.pipeline.errors import WorkerError
from twinkeel.pipeline.store import Here
from twinkeel.pipeline.sweeping import crews
from twinkeel.pipeline.sweeping.tasks import Unfit, versions


class Client:
    """Of a scheduler with workers by their addresses: threads, resources and what each says of itself."""

    def __init__(self, **workers):
        self.workers, self.submitted, self.is_gone, self.states = workers, [], False, ["running"]

    @property
    def status(self):
        return self.states.pop(0) if len(self.states) > 1 else self.states[0]

    def run(self, function, on_error):
        return {address: told for address, (_, _, told) in self.workers.items()}

    def scheduler_info(self, n_workers):
        if self.is_gone:
            raise OSError("closed")
        infos = {
            name: {"nthreads": n, "resources": dict.fromkeys(has, 1)} for name, (n, has, _) in self.workers.items()
        }
        return {"workers": infos}

    def get_executor(self, **asked):
        def submit(function, task):
            self.submitted.append((asked["resources"], asked["workers"]))
            return Future()

        return SimpleNamespace(submit=submit)


def worker(threads=1, resources=(), **others):
    return threads, resources, {"versions": {**versions(), **others}, "node": "n", "process": 1}


def task(step="weights", device="cpu"):
    asked = SimpleNamespace(config=Config.model_validate({"train": {"device": device}}))
    return SimpleNamespace(step=step, keys={step: ""}, asked=asked)


def crew(client, unfit=(), **needs):
    return crews.Crew(number=1, here=Here(), cluster=client, needs=needs, unfit=set(unfit))


def test_workers_on_another_kind_of_machine_or_lost_are_left_out_and_others_of_other_versions_are_an_error():
    said = []
    phone = worker(resources=["GPU"], machine="Darwin arm64")
    client = Client(a=worker(), b=phone, c=(1, (), OSError("timed out")))
    assert crews._checked(client, {}, [], said.append) == {"b", "c"}
    assert [line.split(":")[0] for line in said] == ["worker b is left out", "worker c is left out"], said
    assert "it runs Darwin arm64" in said[0] and "does not answer" in said[1]
    with pytest.raises(WorkerError, match="no worker offers GPU"):  # the one that offers it is left out
        crews._checked(client, {"weights": "GPU"}, [], said.append)
    with pytest.raises(WorkerError, match="none of 1 workers can be used: b runs Darwin arm64"):
        crews._checked(Client(b=phone), {}, [], said.append)
    with pytest.raises(WorkerError, match=r"worker d on n has other versions than this machine: torch 1\.0 \(here"):
        crews._checked(Client(a=worker(), d=worker(torch="1.0")), {}, [], said.append)
    with pytest.raises(WorkerError, match="worker e cannot run twinkeel: ImportError"):
        crews._checked(Client(e=(1, (), ImportError("no module"))), {}, [], said.append)
    with pytest.raises(WorkerError, match="has no workers"):
        crews._checked(Client(), {}, [], said.append)


def test_jobs_go_to_who_offers_what_they_need_and_to_all_who_come(monkeypatch):
    client = Client(a=worker(), b=worker(resources=["GPU"]))
    one = crew(client, program="BIG")
    one.submit(task())
    one.submit(task(device="cuda"))
    one.submit(task("program"))
    assert client.submitted == [(None, None), ({"GPU": 1}, None), ({"BIG": 1}, None)] and one.number == 2
    client.workers |= {"c": worker(threads=4)}
    one.submit(task())
    assert one.number == 2  # asked a moment ago
    monkeypatch.setattr(crews, "_LOOKS", -1)
    one.submit(task())
    assert one.number == 6


def test_who_refuses_a_job_gets_no_more_and_the_last_one_ends_the_sweep():
    client = Client(a=worker(), b=worker())
    one = crew(client)
    assert one.leaves_out(Unfit("other versions", "b")) and one.number == 1
    one.submit(task())
    assert client.submitted == [(None, ["a"])]
    del client.workers["b"]  # with it goes the reason to name the others, who may come any time
    one._look(is_new=True)
    one.submit(task())
    assert client.submitted[-1] == (None, None)
    assert not one.leaves_out(Unfit("other versions", "a"))
    assert not one.leaves_out(Unfit("other versions"))  # of a process here


def test_why_nothing_comes_is_told():
    client = Client(a=worker(), b=worker(resources=["GPU"]))
    one = crew(client, unfit=["c"])
    far, gpu, here = task(), task(device="cuda"), task("data")
    assert one.trouble([far, gpu]) == ""
    del client.workers["b"]
    assert one.trouble([far, gpu]) == "no worker offers GPU at present; jobs wait for one that does"
    assert one.trouble([far]) == "" and crews.Crew(number=1, here=Here()).trouble([far]) == ""
    client.workers = {"c": worker()}
    assert "has no workers at present" in one.trouble([far]) and one.trouble([here]) == ""
    client.is_gone = True
    assert one.trouble([far]) == "the scheduler does not answer: OSError"
    one._looked = 0.0
    with pytest.raises(WorkerError, match=r"the scheduler is gone\. .* \(OSError: closed\)"):
        one.submit(far)


def test_a_scheduler_whose_connection_is_lost_is_waited_for_and_then_given_up(monkeypatch):
    client = Client(a=worker())
    one = crew(client)
    client.states = ["connecting", "connecting", "running"]
    assert one.is_back() and client.states == ["running"]
    for states in (["connecting", "closed"], ["connecting"]):
        client.states = states
        monkeypatch.setattr(crews, "_TIMEOUT", 0.1)
        with pytest.raises(WorkerError, match="the scheduler is gone"):
            one.submit(task())
        with pytest.raises(WorkerError, match="the scheduler is gone"):
            one.trouble([task()])
    assert client.submitted == []
