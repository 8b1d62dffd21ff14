BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# Ids name their machine: that of another one, whose workers have the same rows here, is known to
# name no connection of this one, in whichever worker it is asked. An nginx that is started anew is
# another machine to the one before.
from lib.crowd import WORKERS, Crowd, empty, lines, room
from lib.live import Cases, Nginx, Tap, equal
from lib.peer import TEXT

tap = Tap()
case = Cases()
room(case)
NO = "nilno such connection"
ng = Nginx(server=case.server, workers=WORKERS, listen="reuseport")


def ids():
    ng.start()
    crowd = Crowd(ng, 4 * WORKERS)
    return crowd, {one.id for one in crowd}


def attempt():
    crowd, theirs = ids()
    equal(len({one[:8] for one in theirs}), 1, "one node")
    crowd.close()
    equal(ng.stop(), 0)
    crowd, ours = ids()
    equal(len({one[:8] for one in ours}), 1, "one node")
    # Row and generation are the same: workers of the same slots, each the first there.
    equal({one[8:14] for one in theirs}, {one[8:14] for one in ours})
    assert {one[:8] for one in theirs} != {one[:8] for one in ours}
    for line in lines(ng).values():
        for one in theirs:
            equal(line.ask(f"/send?to={one}&data=x"), NO)
            equal(line.ask(f"/close?to={one}"), NO)
        for one in ours:
            equal(line.ask(f"/send?to={one}&data={line.pid}"), "true")
        equal(set(crowd.next()), {(TEXT, str(line.pid).encode())})
        line.close()
    equal(ng.loud(), [])
    crowd.close()
    empty(ng)
    equal(ng.stop(), 0)


try:
    tap.attempt("another machine's connections are nobody's here", attempt)
finally:
    ng.kill()
tap.done()
