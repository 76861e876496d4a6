using CsCheck;
using GpuTasks.Destinations;
using GpuTasks.Dispatch;
using GpuTasks.Nodes;
using GpuTasks.Tasks;
using static GpuTasks.Tasks.GpuTaskStatus;

namespace GpuTasks.Tests.Tasks;

public sealed class TaskMachineTests
{
    private static readonly DateTimeOffset T0 = DateTimeOffset.FromUnixTimeMilliseconds(1_700_000_000_000);
    private static readonly TaskKey Key = new("1001", "f", "t");

    private static SlotAssignment Slot(string id) => new()
    {
        SlotId = id,
        Node = "node-1",
        InstanceId = "i-" + id,
        RunLimit = TimeSpan.FromSeconds(60),
        Revision = 1,
    };

    private static RunReport Report(RunOutcome outcome, int attempt = 1) => new()
    {
        RunId = TaskViews.RunId("t", attempt),
        Attempt = attempt,
        InstanceId = "i-s1",
        Node = "node-1",
        Outcome = outcome,
        Message = outcome.ToString(),
        Response = [1, 2, 3],
    };

    private static TaskState Enqueue(int retries = 1, string? onSuccess = null, string? onFailure = null) => TaskMachine.Apply(new TaskState(), new Submitted(
        T0, Key, new TaskSubmission { RequestId = "r", MaxRetryAttempts = retries, MaxEventAge = TimeSpan.FromHours(1), OnSuccess = onSuccess, OnFailure = onFailure }));

    private static TaskState In(GpuTaskStatus status)
    {
        var enqueued = Enqueue();
        var running = TaskMachine.Apply(enqueued, new SlotAssigned(T0, Slot("s1")));
        return status switch
        {
            GpuTaskStatus.None => new TaskState(),
            Enqueued => enqueued,
            Running => running,
            Retrying => TaskMachine.Apply(running, new RunEnded(T0, Report(RunOutcome.FunctionError))),
            Stopping => TaskMachine.Apply(running, new StopRequested(T0, "")),
            Succeeded => TaskMachine.Apply(running, new RunEnded(T0, Report(RunOutcome.Succeeded))),
            Failed => TaskMachine.Apply(
                TaskMachine.Apply(Enqueue(retries: 0), new SlotAssigned(T0, Slot("s1"))), new RunEnded(T0, Report(RunOutcome.FunctionError))),
            Stopped => TaskMachine.Apply(enqueued, new StopRequested(T0, "")),
            Expired => TaskMachine.Apply(enqueued, new WakeTimeReached(T0.AddHours(1))),
            Invalid => TaskMachine.Apply(enqueued, new FunctionDeleted(T0)),
            _ => throw new ArgumentOutOfRangeException(nameof(status)),
        };
    }

    private static readonly Dictionary<string, TaskEvent> Events = new()
    {
        ["submit"] = new Submitted(T0, Key, new TaskSubmission { RequestId = "again" }),
        ["slot"] = new SlotAssigned(T0, Slot("s2")),
        ["stop"] = new StopRequested(T0, "asked"),
        ["deleted"] = new FunctionDeleted(T0),
        ["wake"] = new WakeTimeReached(T0.AddMinutes(2)),
        ["launch-failed"] = new LaunchFailed(T0, "i-9", new LaunchFailure(RunOutcome.ImageError, "no image")),
        ["succeeded"] = new RunEnded(T0, Report(RunOutcome.Succeeded)),
        ["failed"] = new RunEnded(T0, Report(RunOutcome.FunctionError)),
        ["late"] = new RunEnded(T0, Report(RunOutcome.Succeeded, attempt: 0)),
        ["of-later-attempt"] = new RunEnded(T0, Report(RunOutcome.Succeeded, attempt: 7)),
        ["lost"] = new RunLost(T0, 1),
    };

    /// <summary>Every status against every event: what is not named here changes nothing.</summary>
    [Theory]
    [InlineData(GpuTaskStatus.None, "submit", Enqueued)]
    [InlineData(Enqueued, "slot", Running)]
    [InlineData(Enqueued, "stop", Stopped)]
    [InlineData(Enqueued, "deleted", Invalid)]
    [InlineData(Enqueued, "wake", Expired)]
    [InlineData(Enqueued, "launch-failed", Retrying)]
    // Of attempts that the row does not know: it was set back with its store.
    [InlineData(Enqueued, "succeeded", Succeeded)]
    [InlineData(Enqueued, "failed", Retrying)]
    [InlineData(Enqueued, "of-later-attempt", Succeeded)]
    [InlineData(Running, "of-later-attempt", Succeeded)]
    [InlineData(Retrying, "of-later-attempt", Succeeded)]
    [InlineData(Stopping, "of-later-attempt", Succeeded)]
    [InlineData(Running, "stop", Stopping)]
    [InlineData(Running, "deleted", Stopping)]
    [InlineData(Running, "wake", Running)]
    [InlineData(Running, "succeeded", Succeeded)]
    [InlineData(Running, "failed", Retrying)]
    [InlineData(Running, "lost", Retrying)]
    [InlineData(Retrying, "stop", Stopped)]
    [InlineData(Retrying, "deleted", Invalid)]
    [InlineData(Retrying, "wake", Enqueued)]
    [InlineData(Stopping, "wake", Stopping)]
    [InlineData(Stopping, "succeeded", Succeeded)]
    [InlineData(Stopping, "failed", Stopped)]
    [InlineData(Stopping, "lost", Stopped)]
    public void The_table_moves(GpuTaskStatus from, string e, GpuTaskStatus to) => Assert.Equal(to, TaskMachine.Apply(In(from), Events[e]).Status);

    [Fact]
    public void Everything_that_the_table_does_not_name_changes_nothing()
    {
        var named = typeof(TaskMachineTests).GetMethod(nameof(The_table_moves))!.GetCustomAttributes(typeof(InlineDataAttribute), false)
            .Cast<InlineDataAttribute>().Select(a => ((GpuTaskStatus)a.Data[0]!, (string)a.Data[1]!)).ToHashSet();
        foreach (var status in Enum.GetValues<GpuTaskStatus>().Where(s => s is not Dequeued))
        {
            foreach (var (name, e) in Events)
            {
                var before = In(status);
                if (!named.Contains((status, name)))
                {
                    Assert.Same(before, TaskMachine.Apply(before, e));
                }
            }
        }
    }

    [Fact]
    public void A_success_after_the_deadline_does_not_count()
    {
        var overdue = Wake(Wake(In(Running)));
        Assert.True(overdue.Overdue);
        Assert.Equal(TaskEffects.CancelRun, overdue.Pending);
        var ended = TaskMachine.Apply(overdue, new RunEnded(T0, Report(RunOutcome.Succeeded) with { Duration = TimeSpan.FromSeconds(60.001) }));
        Assert.Equal(Retrying, ended.Status);
        Assert.Equal(RunOutcome.TimedOut, ended.Outcome);
        Assert.Contains("60 seconds", ended.ErrorMessage, StringComparison.Ordinal);
    }

    [Fact]
    public void A_run_that_was_answered_in_time_on_a_node_that_was_away_past_the_limit_keeps_its_answer()
    {
        var overdue = Wake(Wake(In(Running)));
        Assert.True(overdue.Overdue);
        var inTime = Report(RunOutcome.Succeeded) with { Duration = TimeSpan.FromSeconds(60) };
        Assert.Equal(Succeeded, TaskMachine.Apply(overdue, new RunEnded(T0, inTime)).Status);
        var failed = TaskMachine.Apply(overdue, new RunEnded(T0, inTime with { Outcome = RunOutcome.FunctionError, Message = "its own word" }));
        Assert.Equal((RunOutcome.FunctionError, "its own word"), (failed.Outcome, failed.ErrorMessage));

        // What was ended for being overdue was not in time, however short its node found it.
        Assert.Equal(RunOutcome.TimedOut, TaskMachine.Apply(overdue, new RunEnded(T0, inTime with { Outcome = RunOutcome.Cancelled })).Outcome);
    }

    [Fact]
    public void A_run_is_ordered_again_before_it_is_given_up()
    {
        var running = In(Running);
        Assert.Equal(T0 + TaskMachine.OrderCheckAfter, running.WakeAt);

        // The process was down for long: the order may never have been given, so nothing is overdue yet.
        var late = TaskMachine.Apply(running, new WakeTimeReached(T0.AddHours(1)));
        Assert.Equal(Running, late.Status);
        Assert.False(late.Overdue);
        Assert.Equal(TaskEffects.StartRun, late.Pending);
        Assert.Equal(T0.AddHours(1).AddSeconds(60) + TaskMachine.DeadlineMargin, late.WakeAt);
        Assert.Equal(Succeeded, TaskMachine.Apply(late, new RunEnded(T0, Report(RunOutcome.Succeeded))).Status);
    }

    [Fact]
    public void A_wall_clock_that_was_set_forward_ends_no_run()
    {
        var running = Wake(In(Running));
        var early = TaskMachine.Apply(running, new WakeTimeReached(T0.AddHours(1), RunFor: TimeSpan.FromSeconds(20)));
        Assert.False(early.Overdue);
        Assert.Equal(TaskEffects.None, early.Pending & TaskEffects.CancelRun);
        Assert.Equal(T0.AddHours(1).AddSeconds(40) + TaskMachine.DeadlineMargin, early.WakeAt);
        var over = TaskMachine.Apply(early, new WakeTimeReached(early.WakeAt!.Value, RunFor: TimeSpan.FromSeconds(60) + TaskMachine.DeadlineMargin));
        Assert.True(over.Overdue);
        Assert.Equal(TaskEffects.CancelRun, over.Pending);
    }

    [Fact]
    public void A_task_that_was_set_back_with_the_store_takes_up_the_run_that_its_node_has()
    {
        var waiting = In(Enqueued);
        var taken = TaskMachine.Apply(waiting, new RunClaimed(T0, 2, Slot("s7")));
        Assert.Equal((Running, 2, "s7", TaskEffects.LeaveQueue), (taken.Status, taken.Attempt, taken.Slot!.SlotId, taken.Pending));
        Assert.Same(taken, TaskMachine.Apply(taken, new RunClaimed(T0, 2, Slot("s7"))));
        Assert.Same(taken, TaskMachine.Apply(taken, new SlotAssigned(T0, Slot("s8"))));
        Assert.Equal(Succeeded, TaskMachine.Apply(taken, new RunEnded(T0, Report(RunOutcome.Succeeded, attempt: 2))).Status);

        // An end that comes first says the same, and a failure counts as ever.
        Assert.Equal(Succeeded, TaskMachine.Apply(waiting, new RunEnded(T0, Report(RunOutcome.Succeeded, attempt: 1))).Status);
        Assert.Equal((Retrying, 3), TaskMachine.Apply(In(Running), new RunEnded(T0, Report(RunOutcome.Crashed, attempt: 3))) is var failed ? (failed.Status, failed.Attempt) : default);

        // Stopped stays stopped: what runs is ended.
        var stopping = TaskMachine.Apply(In(Stopping), new RunClaimed(T0, 5, Slot("s9")));
        Assert.Equal((Stopping, 5, TaskEffects.CancelRun), (stopping.Status, stopping.Attempt, stopping.Pending));
        Assert.All([Succeeded, Failed, Stopped], status => Assert.Equal(status, TaskMachine.Apply(In(status), new RunClaimed(T0, 9, Slot("s9"))).Status));
    }

    [Fact]
    public void Of_two_runs_of_one_attempt_the_one_that_was_never_confirmed_gives_way()
    {
        var running = In(Running);
        Assert.True(running.Pending.HasFlag(TaskEffects.StartRun));
        Assert.Equal("s7", TaskMachine.Apply(running, new RunClaimed(T0, running.Attempt, Slot("s7"))).Slot!.SlotId);
        var confirmed = running with { Pending = TaskEffects.None };
        Assert.Same(confirmed, TaskMachine.Apply(confirmed, new RunClaimed(T0, running.Attempt, Slot("s7"))));
    }

    private static TaskState Wake(TaskState s) => TaskMachine.Apply(s, new WakeTimeReached(s.WakeAt!.Value));

    [Fact]
    public void A_success_that_beats_the_stop_stands()
    {
        var ended = TaskMachine.Apply(In(Stopping), new RunEnded(T0, Report(RunOutcome.Succeeded)));
        Assert.Equal(Succeeded, ended.Status);
        Assert.Equal([1, 2, 3], ended.Result);
    }

    [Fact]
    public void A_slot_that_was_given_back_is_not_taken_again()
    {
        var retried = TaskMachine.Apply(In(Retrying), new WakeTimeReached(T0.AddMinutes(1)));
        Assert.Same(retried, TaskMachine.Apply(retried, new SlotAssigned(T0, Slot("s1"))));
        Assert.Equal(2, TaskMachine.Apply(retried, new SlotAssigned(T0, Slot("s3"))).Attempt);
    }

    [Theory]
    [InlineData(RunOutcome.FunctionError, 1, 0)]
    [InlineData(RunOutcome.TimedOut, 1, 0)]
    [InlineData(RunOutcome.Crashed, 1, 0)]
    [InlineData(RunOutcome.HostOutOfMemory, 1, 0)]
    [InlineData(RunOutcome.GpuOutOfMemory, 1, 0)]
    [InlineData(RunOutcome.NodeLost, 0, 1)]
    [InlineData(RunOutcome.EngineError, 0, 1)]
    [InlineData(RunOutcome.GpuFault, 0, 1)]
    [InlineData(RunOutcome.Preempted, 0, 1)]
    [InlineData(RunOutcome.Cancelled, 0, 1)]
    public void Only_what_the_function_did_counts(RunOutcome outcome, int counted, int platform)
    {
        var after = TaskMachine.Apply(In(Running), new RunEnded(T0, Report(outcome)));
        Assert.Equal((Retrying, counted, platform), (after.Status, after.CountedFailures, after.PlatformFaults));
    }

    [Fact]
    public void Attempts_end_after_the_permitted_retries()
    {
        var s = Enqueue(retries: 2);
        for (var attempt = 1; attempt <= 3; attempt++)
        {
            s = TaskMachine.Apply(s, new SlotAssigned(T0, Slot("a" + attempt)));
            Assert.Equal(attempt - 1, s.Retries);
            s = TaskMachine.Apply(s, new RunEnded(T0, Report(RunOutcome.Crashed, attempt)));
            Assert.Equal(attempt < 3 ? Retrying : Failed, s.Status);
            s = TaskMachine.Apply(s, new WakeTimeReached(T0.AddMinutes(1)));
        }

        Assert.Equal(Failed, s.Status);
        Assert.Equal("""{"Error":"Crashed","Message":"Crashed"}""", s.Events[^1].Detail);
    }

    [Fact]
    public void Faults_of_the_platform_have_a_budget_of_their_own()
    {
        var s = Enqueue(retries: 0);
        var attempts = 0;
        while (!s.Status.IsFinal())
        {
            s = TaskMachine.Apply(s, new SlotAssigned(T0, Slot("a" + ++attempts)));
            s = TaskMachine.Apply(s, new RunLost(T0, attempts, "no place"));
            Assert.Equal("""{"Error":"NodeLost","Message":"no place"}""", s.Events[^1].Detail);
            s = TaskMachine.Apply(s, new WakeTimeReached(T0.AddMinutes(1)));
        }

        Assert.Equal(RetryPolicy.PlatformFaultBudget + 1, attempts);
        Assert.Equal((Failed, 0), (s.Status, s.CountedFailures));
    }

    [Theory]
    [InlineData(Succeeded, "ok")]
    [InlineData(Failed, "bad")]
    [InlineData(Expired, "bad")]
    [InlineData(Invalid, "bad")]
    [InlineData(Stopped, null)]
    public void The_destination_that_fits_the_end_is_put_into_the_outbox(GpuTaskStatus end, string? target)
    {
        var enqueued = Enqueue(retries: 0, onSuccess: "ok", onFailure: "bad");
        var running = TaskMachine.Apply(enqueued, new SlotAssigned(T0, Slot("s1")));
        var ended = end switch
        {
            Succeeded => TaskMachine.Apply(running, new RunEnded(T0, Report(RunOutcome.Succeeded))),
            Failed => TaskMachine.Apply(running, new RunEnded(T0, Report(RunOutcome.Crashed))),
            Expired => TaskMachine.Apply(enqueued, Events["wake"]),
            Invalid => TaskMachine.Apply(enqueued, Events["deleted"]),
            _ => TaskMachine.Apply(enqueued, Events["stop"]),
        };
        Assert.Equal(end, ended.Status);
        Assert.Equal(target, ended.Outbox?.Target);
        Assert.Equal(target is not null, ended.Pending.HasFlag(TaskEffects.Notify));
    }

    [Fact]
    public void A_destination_is_tried_with_growing_pauses_for_a_day_and_then_kept_as_a_dead_letter()
    {
        var s = Told();
        Assert.Equal((T0 + TaskMachine.DeliveryCheckAfter, ""), (s.WakeAt, s.DestinationStatus));
        var id = s.Outbox!.DeliveryId;
        var at = T0;
        var tries = 0;
        while (s.Outbox is not null)
        {
            s = TaskMachine.Apply(s, Missed(at, $"fault {++tries}"));
            Assert.True(tries < 1000);
            Assert.True(s.WakeAt > at);
            Assert.Equal(s.Outbox is null ? "Failed" : "Retrying", s.DestinationStatus);
            at = s.Outbox is null ? at : s.WakeAt!.Value;
        }

        Assert.Equal(T0.AddHours(24), at);
        Assert.Equal(new DeadLetter(id, "ok", tries, $"fault {tries}", at), s.DeadLetter);
        Assert.Equal((Succeeded, at.ToUnixTimeMilliseconds()), (s.Status, s.Index!.DeadAt));
        Assert.Same(s, TaskMachine.Apply(s, new DestinationTold(at)));
        Assert.Same(s, TaskMachine.Apply(s, Missed(at, "late")));
    }

    [Fact]
    public void A_delivery_that_cannot_succeed_is_a_dead_letter_at_once_and_goes_with_its_time()
    {
        var dead = TaskMachine.Apply(Told(), Missed(T0, "gone", isFinal: true));
        Assert.Equal(("Failed", 1, "gone"), (dead.DestinationStatus, dead.DeadLetter!.Attempts, dead.DeadLetter.Fault));
        Assert.Equal(T0.AddDays(9), dead.WakeAt);
        foreach (var e in new TaskEvent[] { new WakeTimeReached(T0.AddDays(9)), new DeadLetterDeleted(T0) })
        {
            var forgotten = TaskMachine.Apply(dead, e);
            Assert.Equal((null, null, null, "Failed"), (forgotten.DeadLetter, forgotten.WakeAt, forgotten.Index!.DeadAt, forgotten.DestinationStatus));
            Assert.Same(forgotten, TaskMachine.Apply(forgotten, new RedeliveryRequested(T0)));
        }
    }

    [Fact]
    public void A_replay_is_the_same_delivery_with_a_day_of_its_own()
    {
        var told = Told();
        var dead = TaskMachine.Apply(told, Missed(T0, "gone", isFinal: true));
        var later = T0.AddDays(3);
        var again = TaskMachine.Apply(dead, new RedeliveryRequested(later));
        Assert.Equal(("Retrying", told.Outbox!.DeliveryId, 1), (again.DestinationStatus, again.Outbox!.DeliveryId, again.Outbox.Attempts));
        Assert.True(again.Pending.HasFlag(TaskEffects.Notify));
        Assert.Null(again.DeadLetter);
        Assert.Same(again, TaskMachine.Apply(again, new RedeliveryRequested(later)));
        Assert.NotNull(TaskMachine.Apply(again, Missed(later.AddHours(23), "away")).Outbox);
        Assert.Null(TaskMachine.Apply(again, Missed(later.AddHours(24), "away")).Outbox);
        Assert.Equal("Succeeded", TaskMachine.Apply(again, new DestinationTold(later)).DestinationStatus);
    }

    [Fact]
    public void A_delivery_that_found_no_place_is_no_try_but_comes_later_each_time()
    {
        var s = Told();
        var waits = new List<TimeSpan>();
        for (var i = 0; i < 8; i++)
        {
            s = TaskMachine.Apply(s, new DestinationMissed(T0, new DeliveryFault(Final: false, "busy") { Tried = false, RetryAfter = TimeSpan.FromMilliseconds(1) }, T0));
            waits.Add(s.WakeAt!.Value - T0);
        }

        Assert.Equal((0, 8, ""), (s.Outbox!.Attempts, s.Outbox.Pauses, s.DestinationStatus));
        Assert.True(waits[^1] > 16 * waits[0]);
    }

    [Fact]
    public void What_a_receiver_asks_for_is_kept_within_the_day()
    {
        Assert.Equal(T0.AddHours(2), TaskMachine.Apply(Told(), Missed(T0, "busy", after: TimeSpan.FromHours(2))).WakeAt);
        Assert.Equal(T0.AddHours(24), TaskMachine.Apply(Told(), Missed(T0, "busy", after: TimeSpan.FromDays(30))).WakeAt);
    }

    [Fact]
    public void An_id_that_is_used_again_after_its_task_was_purged_makes_another_delivery()
    {
        var first = Told();
        var second = TaskMachine.Apply(new TaskState(), new Submitted(T0.AddDays(8), first.Key!.Value, first.Submission!));
        second = TaskMachine.Apply(TaskMachine.Apply(second, new SlotAssigned(T0.AddDays(8), Slot("s1"))), new RunEnded(T0.AddDays(8), Report(RunOutcome.Succeeded)));
        Assert.NotEqual(DestinationMessage.IdOf(first.Outbox!.DeliveryId), DestinationMessage.IdOf(second.Outbox!.DeliveryId));
    }

    private static TaskState Told() =>
        TaskMachine.Apply(TaskMachine.Apply(Enqueue(onSuccess: "ok"), new SlotAssigned(T0, Slot("s1"))), new RunEnded(T0, Report(RunOutcome.Succeeded)));

    private static DestinationMissed Missed(DateTimeOffset at, string fault, bool isFinal = false, TimeSpan? after = null) =>
        new(at, new DeliveryFault(isFinal, fault) { RetryAfter = after }, T0.AddDays(9));

    [Fact]
    public void The_same_failed_launch_counts_once()
    {
        var once = TaskMachine.Apply(In(Enqueued), Events["launch-failed"]);
        var again = TaskMachine.Apply(once, new WakeTimeReached(T0.AddMinutes(1)));
        Assert.Equal(Enqueued, again.Status);
        Assert.Same(again, TaskMachine.Apply(again, Events["launch-failed"]));
    }

    [Fact]
    public void Random_walks_keep_the_promises() => Gen.Int[0, Events.Count - 1].Array[1, 200].Sample(steps =>
    {
        var events = Events.Values.ToArray();
        var s = new TaskState();
        foreach (var step in steps)
        {
            var e = events[step] switch
            {
                // Half of the reports are for the current attempt, the others are late.
                RunEnded r when step % 2 == 0 => new RunEnded(T0, r.Report with { Attempt = s.Attempt }),
                RunLost => new RunLost(T0, s.Attempt),
                SlotAssigned => new SlotAssigned(T0, Slot("n" + s.Events.Count + "-" + s.Attempt)),
                var other => other,
            };
            var next = TaskMachine.Apply(s, e);
            Assert.True(!s.Status.IsFinal() || ReferenceEquals(s, next), "a final status stays");
            var takenUp = e is RunEnded ended && ended.Attempt == next.Attempt;
            Assert.True(next.Attempt >= s.Attempt && (next.Attempt <= s.Attempt + 1 || takenUp), "attempts grow by one, but for those that a restored row does not know");
            Assert.True(!next.Status.IsFinal() || (next.EndedAt is not null && next.WakeAt is null), "a final task is never woken");
            Assert.True(next.Status.IsFinal() || next.Status is GpuTaskStatus.None || next.WakeAt is not null, "what is not final is woken some day");
            Assert.True(next.Status is not Running || next.Slot is not null, "a running task has a slot");
            Assert.True(next.Events.Count <= TaskMachine.MaxEvents, "the history is bounded");
            Assert.Equal(next.Status.ToString(), next.Index?.Status ?? "None");
            s = next;
        }
    });
}
