"""The bench's own instruments."""

import os
import threading
import time
import unittest

import measuring

WORK_NS = 50_000_000


def spin():
    until = time.thread_time_ns() + WORK_NS
    while time.thread_time_ns() < until:
        pass


class ProcessorTime(unittest.TestCase):
    def test_a_thread_that_has_ended_still_counts(self):
        before = measuring.cpu_ns([os.getpid()])
        worker = threading.Thread(target=spin)
        worker.start()
        worker.join()
        self.assertGreaterEqual(measuring.cpu_ns([os.getpid()]) - before, WORK_NS)

    def test_it_is_the_processs_own_clock(self):
        before = time.process_time_ns()
        between = measuring.cpu_ns([os.getpid()])
        self.assertLessEqual(before, between)
        self.assertLessEqual(between, time.process_time_ns())

    def test_it_counts_for_another_process_too_and_not_for_one_that_is_gone(self):
        ready, tell = os.pipe()
        child = os.fork()
        if child == 0:
            spin()
            os.write(tell, b"x")
            while True:
                time.sleep(1000)
        os.read(ready, 1)
        self.assertGreaterEqual(measuring.cpu_ns([child]), WORK_NS)
        os.kill(child, 9)
        os.waitpid(child, 0)
        self.assertEqual(measuring.cpu_ns([child]), 0)


if __name__ == "__main__":
    unittest.main(verbosity=2)
