using System.Diagnostics;
using System.Globalization;
using System.Text.Json;

namespace GpuTasks.Relay;

/// <summary>How an order was received.</summary>
internal enum Admission
{
    Accepted,
    Known,
    StaleEpoch,
    NotReady,
    Retiring,
    Busy,
}

/// <summary>
/// The instance's one truth: its state, its runs, and the rules by which runs begin and end. All of it is guarded by one lock,
/// which is never held across I/O on the runs' files.
/// </summary>
internal sealed class Instance : IDisposable
{
    private const int MaxRuns = 1000;
    private const int CommandNotFound = 127;
    private const int CommandNotStarted = 126;

    /// <summary>A dead process's last words on its connections are read within this.</summary>
    private static readonly TimeSpan LastWords = TimeSpan.FromSeconds(1);

    /// <summary>Longest grace of an end for want of contact: whoever waits for that end counts on it.</summary>
    private const int LostGraceMs = 10_000;

    /// <summary>How old what the status file says of runs may be.</summary>
    private static readonly TimeSpan RunsInStatusFile = TimeSpan.FromSeconds(1);

    /// <summary>Longest wait, at the end, for what should end by itself once the function is gone.</summary>
    private static readonly TimeSpan Settling = TimeSpan.FromSeconds(5);

    private readonly Lock gate = new();
    private readonly Lock forgetting = new();
    private readonly Box box;
    private readonly RelayConfig config;
    private readonly MemoryCgroup memory;
    private readonly RunFiles files;
    private readonly LogPump log;
    private readonly FunctionClient function;
    private readonly Probe probe;
    private readonly Dictionary<string, Run> runs = new(StringComparer.Ordinal);
    private readonly CancellationTokenSource probing = new();
    private readonly TaskCompletionSource<int> stopped = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly TaskCompletionSource childEndShown = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly Timer killTimer;
    private readonly Timer contactTimer;
    private TaskCompletionSource changed = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private TaskCompletionSource turned = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private (string State, FailureDocument? Failure, ChildDocument? Child, long Epoch) shown;
    private ChildProcess? child;
    private ChildDocument childDocument = new();
    private FailureDocument? failure;
    private long version = 1;
    private long epoch;
    private bool ready;
    private bool retiring;
    private bool stopping;
    private bool stopRequested;
    private bool termSent;
    private int stopGraceMs;
    private int exitCode = CommandNotFound;
    private long killAtMs = long.MaxValue;
    private long contactAtMs;
    private bool contactLost;

    internal Instance(Box box, RelayConfig config, MemoryCgroup memory)
    {
        this.box = box;
        this.config = config;
        this.memory = memory;
        files = new RunFiles(box);
        log = new LogPump(new LogSegments(box.LogsPath, config.LogBytes, config.LogSegmentBytes));
        function = new FunctionClient(config.Port, config.Headers);
        probe = new Probe(config, function);
        killTimer = new Timer(_ => child?.KillEverything());
        contactAtMs = Environment.TickCount64 - Math.Max(0, config.ContactAgeMs);
        contactTimer = new Timer(_ => CheckContact());
        epoch = Math.Max(config.Epoch, EarlierEpoch());
        foreach (var (order, document) in files.Load())
        {
            var run = new Run(order, document);
            run.Admit(true);
            runs.Add(run.Id, run);
            epoch = Math.Max(epoch, order.Epoch);
        }
    }

    /// <summary>Completes with the code to leave with, after a stop.</summary>
    internal Task<int> Stopped => stopped.Task;

    /// <summary>Starts the function and what watches it.</summary>
    internal void Start(IReadOnlyList<string> command)
    {
        CheckContact();
        (child, var error) = ChildProcess.Start(command);
        if (child is null)
        {
            exitCode = error == Native.NotFound ? CommandNotFound : CommandNotStarted;
            Fail(new(Failures.CannotStart, $"{command[0]} cannot be started: {new System.ComponentModel.Win32Exception(error).Message}."));
            return;
        }

        lock (gate)
        {
            childDocument = new ChildDocument { Pid = child.Pid, Running = true };
            Change();
        }

        log.Start(child.Output);
        _ = WatchChildAsync(child);
        _ = ProbeAsync();
    }

    internal void Forward(int signal) => child?.Signal(signal);

    /// <summary>The status as soon as its version exceeds <paramref name="after"/>, or as it is when the wait is over.</summary>
    /// <param name="after">A version.</param>
    /// <param name="wait">Longest wait.</param>
    /// <param name="onlyChanges">Whether runs that have not changed since are left out.</param>
    internal async Task<StatusDocument> StatusAsync(long after, TimeSpan wait, bool onlyChanges = false)
    {
        var until = Stopwatch.GetTimestamp() + (long)(wait.TotalSeconds * Stopwatch.Frequency);
        while (true)
        {
            Task change;
            lock (gate)
            {
                if (version > after)
                {
                    break;
                }

                change = changed.Task;
            }

            var left = Stopwatch.GetElapsedTime(Stopwatch.GetTimestamp(), until);
            if (left <= TimeSpan.Zero)
            {
                break;
            }

            await change.WaitAsync(left).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }

        return Status(onlyChanges ? after : 0);
    }

    internal StatusDocument Status(long after = 0)
    {
        var (logStart, logEnd) = log.Range;
        lock (gate)
        {
            return new StatusDocument
            {
                InstanceId = config.InstanceId,
                Version = version,
                Epoch = epoch,
                State = State(),
                Failure = failure,
                Child = childDocument,
                LogStart = logStart,
                LogEnd = logEnd,
                Runs = [.. runs.Values.Where(run => IsAdmitted(run) && run.ChangedAt > after).Select(run => run.Document)],
            };
        }
    }

    /// <summary>The run, or null when there is none.</summary>
    internal RunDocument? Find(string runId)
    {
        lock (gate)
        {
            return runs.TryGetValue(runId, out var run) && IsAdmitted(run) ? run.Document : null;
        }
    }

    /// <summary>A run under way that streams, or null.</summary>
    internal Run? FindStream(string runId)
    {
        lock (gate)
        {
            return runs.TryGetValue(runId, out var run) && run.IsOpen && run.Order.Streams ? run : null;
        }
    }

    internal string ResponsePath(string runId) => files.ResponsePath(runId);

    /// <summary>Takes an order: durable when this returns <see cref="Admission.Accepted"/>, and never twice.</summary>
    internal async Task<Admission> AcceptAsync(string runId, RunOrder order, Func<string, Task> saveBody)
    {
        var oomKills = memory.OomKills();
        Run run;
        while (true)
        {
            Run? earlier;
            lock (gate)
            {
                if (!runs.TryGetValue(runId, out earlier))
                {
                    epoch = Math.Max(epoch, order.Epoch);
                    if (Refusal(order, starting: true) is { } refusal)
                    {
                        return refusal;
                    }

                    run = new Run(order, new RunDocument { RunId = runId, Context = order.Context }) { OomKillsBefore = oomKills };
                    runs.Add(runId, run);
                    break;
                }
            }

            // The same order, sent twice at once: the second waits for what becomes of the first.
            if (await earlier.Admitted)
            {
                return Admission.Known;
            }
        }

        try
        {
            await files.CreateAsync(runId, order, saveBody);
        }
        catch
        {
            Drop(run);
            throw;
        }

        var logFrom = log.Drain();
        Admission? late;
        lock (gate)
        {
            // The instance may have ended while the body was arriving.
            late = Refusal(order, starting: false);
            if (late is null)
            {
                run.Document = run.Document with { StartedAtMs = DateTimeOffset.UtcNow.ToUnixTimeMilliseconds(), LogFrom = logFrom, LogTo = logFrom };
                run.Admit(true);
                run.ChangedAt = version + 1;
                Change();
                run.Execution = Task.Run(() => ExecuteAsync(run));
            }
        }

        if (late is { } reason)
        {
            Drop(run);
            return reason;
        }

        return Admission.Accepted;
    }

    /// <summary>Asks for a run's end; false when there is no such run.</summary>
    internal bool Cancel(string runId)
    {
        Run? run;
        lock (gate)
        {
            if (!runs.TryGetValue(runId, out run) || !IsAdmitted(run))
            {
                return false;
            }
        }

        End(run, Outcomes.Cancelled, "The run was cancelled.");
        return true;
    }

    /// <summary>Forgets an ended run; false while it is running.</summary>
    internal bool Acknowledge(string runId)
    {
        lock (forgetting)
        {
            lock (gate)
            {
                if (!runs.TryGetValue(runId, out var run))
                {
                    return true;
                }

                if (run.Document.State != RunStates.Ended)
                {
                    return false;
                }
            }

            files.Delete(runId);
            lock (gate)
            {
                runs.Remove(runId);
                Change();
            }

            return true;
        }
    }

    internal void Retire()
    {
        lock (gate)
        {
            if (!retiring)
            {
                retiring = true;
                Change();
            }
        }
    }

    /// <summary>The platform was heard of <paramref name="ageMs"/> ago.</summary>
    internal void Contact(long ageMs)
    {
        lock (gate)
        {
            contactAtMs = Math.Max(contactAtMs, Environment.TickCount64 - ageMs);
        }
    }

    /// <summary>Ends the function and then this process: at the latest <paramref name="graceMs"/> after the pre-stop hook.</summary>
    internal void Stop(int? graceMs = null) => Stop(graceMs, Outcomes.Cancelled, "The instance was stopped while the run was under way.");

    private void Stop(int? graceMs, string outcome, string reason)
    {
        var grace = Math.Max(0, graceMs ?? config.GraceMs);
        bool first;
        bool sooner;
        lock (gate)
        {
            first = !stopRequested;
            sooner = !first && grace < stopGraceMs;
            if (first || sooner)
            {
                stopGraceMs = grace;
            }

            stopRequested = true;
            stopping = true;
            foreach (var run in runs.Values.Where(run => run.IsOpen && run.EndAsked is null && childDocument.Running))
            {
                run.EndAsked = outcome;
                run.EndReason = reason;
            }

            Change();
        }

        if (first)
        {
            _ = StopAsync();
        }
        else if (sooner)
        {
            KillWithin(grace);
        }
    }

    /// <summary>
    /// Keeps <c>status.json</c> as new as it can in what it says of the instance, and of the runs, which have files of their own, within
    /// a second; the last version is written before this returns.
    /// </summary>
    internal async Task KeepStatusFileAsync()
    {
        for (long written = 0; ;)
        {
            Task turn;
            lock (gate)
            {
                turn = turned.Task;
            }

            var last = Stopped.IsCompleted;
            var status = last ? Status() : await StatusAsync(written, TimeSpan.FromMinutes(1));
            if (last || status.Version > written)
            {
                try
                {
                    Box.WriteDurably(box.StatusPath, JsonSerializer.SerializeToUtf8Bytes(status, Json.Default.StatusDocument));
                }
                catch (Exception e) when (e is IOException or UnauthorizedAccessException)
                {
                    Words.Say($"cannot write the status: {e.Message}");
                }

                written = status.Version;
            }

            if (last)
            {
                return;
            }

            await Task.WhenAny(turn, Task.Delay(RunsInStatusFile));
        }
    }

    public void Dispose()
    {
        killTimer.Dispose();
        contactTimer.Dispose();
        probing.Dispose();
    }

    /// <summary>
    /// Ends everything once the platform was not heard of for too long: by then it takes the machine for lost and runs the
    /// work elsewhere. The clock is the monotonic one, which nobody can set.
    /// </summary>
    private void CheckContact()
    {
        if (config.NodeLostTimeoutMs <= 0)
        {
            return;
        }

        long left;
        lock (gate)
        {
            left = contactAtMs + config.NodeLostTimeoutMs - Environment.TickCount64;
            contactLost = left <= 0;
        }

        if (left > 0)
        {
            contactTimer.Change(Math.Min(left, int.MaxValue), Timeout.Infinite);
            return;
        }

        Stop(
            Math.Min(config.GraceMs, LostGraceMs),
            Outcomes.ContactLost,
            string.Create(CultureInfo.InvariantCulture, $"The node had no contact with the platform for {config.NodeLostTimeoutMs / 1000.0:0.###} s, so the run was ended."));
    }

    private static bool IsAdmitted(Run run) => run.Admitted is { IsCompletedSuccessfully: true, Result: true };

    private async Task ExecuteAsync(Run run)
    {
        var limit = TimeSpan.FromMilliseconds(run.Order.LimitMs);
        using var deadline = new Timer(
            _ => End(run, Outcomes.TimedOut, string.Create(CultureInfo.InvariantCulture, $"The run passed its limit of {limit.TotalSeconds:0.###} s and was ended.")),
            null,
            limit,
            Timeout.InfiniteTimeSpan);

        using var unread = run is { Answer: { } answer, Order.UnreadMs: > 0 and var patience }
            ? new Timer(_ => EndIfUnread(run, answer, patience), null, patience, Math.Max(100, patience / 10))
            : null;
        var execution = new RunExecution(function, files, config, memory, child!);
        var document = await execution.RunAsync(run);
        document = document with
        {
            State = RunStates.Ended,
            DurationMs = (long)Stopwatch.GetElapsedTime(run.Since).TotalMilliseconds,
            LogTo = log.Drain(),
            MaxMemoryBytes = memory.PeakBytes(),
        };
        try
        {
            await files.SaveEndAsync(document);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // The agent can still be told; only a restart of the relay would forget it.
            Words.Say($"cannot write the end of run {run.Id}: {e.Message}");
        }

        lock (gate)
        {
            run.Document = document;
            run.ChangedAt = version + 1;
            // By the contract an instance that broke a connection is not used again.
            retiring |= document.Outcome is Outcomes.Crashed or Outcomes.OutOfMemory or Outcomes.Disconnected;
            Change();
        }

        // Who waits for more of it sees now that it has ended.
        run.Answer?.Close();
        run.Body?.Close();
    }

    /// <summary>Nobody wants the answer any more, and the function would wait for its reader until its limit.</summary>
    private void EndIfUnread(Run run, StreamWindow answer, long patience)
    {
        if (answer.UnreadMs >= patience)
        {
            End(run, Outcomes.Unread, string.Create(CultureInfo.InvariantCulture, $"Nobody has asked for the run's answer for {patience / 1000.0:0.###} s, so the run was ended."));
        }
    }

    /// <summary>Ends a run before its answer. Alone it takes the function's process with it; beside others only its connection.</summary>
    private void End(Run run, string outcome, string reason)
    {
        bool alone;
        lock (gate)
        {
            // A process that is gone has ended the run already, and the first reason stands.
            if (!run.IsOpen || run.EndAsked is not null || !childDocument.Running)
            {
                return;
            }

            run.EndAsked = outcome;
            run.EndReason = reason;
            alone = runs.Values.Count(r => r.IsOpen) == 1;
            if (alone)
            {
                stopping = true;
            }
            else
            {
                run.LeftBehind = true;
                retiring = true;
            }

            Change();
        }

        if (alone)
        {
            Terminate(config.GraceMs);
        }
        else
        {
            run.Closing.Cancel();
        }
    }

    private void Terminate(int graceMs)
    {
        bool send;
        lock (gate)
        {
            send = !termSent;
            termSent = true;
        }

        if (send)
        {
            child?.Signal(Native.SigTerm);
        }

        KillWithin(graceMs);
    }

    private void KillWithin(int graceMs)
    {
        lock (gate)
        {
            var at = Environment.TickCount64 + graceMs;
            if (at < killAtMs && childDocument.Running)
            {
                killAtMs = at;
                killTimer.Change(graceMs, Timeout.Infinite);
            }
        }
    }

    private async Task StopAsync()
    {
        await probing.CancelAsync();
        bool ask;
        lock (gate)
        {
            ask = ready && childDocument.Running && !termSent && !contactLost;
        }

        if (ask && config.PreStop is { } hook)
        {
            using var ended = new CancellationTokenSource();
            var call = probe.CallHookAsync("GET", "/pre-stop", hook, ended.Token);
            await Task.WhenAny(call, child!.Exited);
            if (!call.IsCompleted)
            {
                await ended.CancelAsync();
                await ((Task)call).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            }
            else if (await call is { } wrong)
            {
                Words.Say($"the pre-stop hook failed: {wrong}");
            }
        }

        if (child is not null)
        {
            Terminate(stopGraceMs);
            var exit = await child.Exited;
            child.KillEverything();
            exitCode = exit.ShellCode;
            await Settle(child.AllGone);
            await Settle(log.Finished);

            // Somebody else waits for the same end and writes down how it was: the last status must not be older than that.
            await Settle(childEndShown.Task);
        }

        Task[] open;
        lock (gate)
        {
            open = [.. runs.Values.Select(run => run.Execution)];
        }

        await Settle(Task.WhenAll(open));
        stopped.TrySetResult(exitCode);
        lock (gate)
        {
            Change();
        }
    }

    private static async Task Settle(Task task) => await Task.WhenAny(task, Task.Delay(Settling));

    private async Task ProbeAsync()
    {
        try
        {
            if (await probe.StartUpAsync(probing.Token) is { } wrong)
            {
                Fail(wrong);
                return;
            }

            lock (gate)
            {
                ready = true;
                Change();
            }

            if (config.HealthCheck is { } check)
            {
                Fail(await probe.WatchAsync(check, IsIdle, probing.Token));
            }
        }
        catch (OperationCanceledException)
        {
            // The function's process is gone, or going.
        }
    }

    private async Task WatchChildAsync(ChildProcess process)
    {
        var exit = await process.Exited;
        // A container lives as long as its first process: what that one started must not hold on to a card.
        process.KillEverything();
        var oomKills = memory.OomKills();
        var oom = oomKills > 0 && exit.Signal == Native.SigKill;
        lock (gate)
        {
            killTimer.Change(Timeout.Infinite, Timeout.Infinite);
            childDocument = new ChildDocument { Pid = process.Pid, ExitCode = exit.Code, Signal = exit.Signal, OomKilled = oom };
            if (!stopping)
            {
                var when = ready ? "" : " before it was ready";
                failure ??= new(Failures.Exited, oom
                    ? $"The function's process was killed for want of memory{when}."
                    : $"The function's process ended with {exit}{when}.");
            }

            Change();
        }

        childEndShown.TrySetResult();
        await probing.CancelAsync();
        await Task.Delay(LastWords);
        Run[] open;
        lock (gate)
        {
            open = [.. runs.Values.Where(run => run.IsOpen)];
        }

        foreach (var run in open)
        {
            await run.Closing.CancelAsync();
        }
    }

    private void Fail(FailureDocument reason)
    {
        lock (gate)
        {
            failure ??= reason;
            Change();
        }

        Words.Say($"{reason.Kind}: {reason.Message}");
    }

    private bool IsIdle()
    {
        lock (gate)
        {
            return !runs.Values.Any(run => run.Document.State == RunStates.Running);
        }
    }

    /// <summary>Why an order cannot be taken now; null when it can. A run whose body is arriving has its place already.</summary>
    private Admission? Refusal(RunOrder order, bool starting)
    {
        if (order.Epoch < epoch)
        {
            return Admission.StaleEpoch;
        }

        if (stopping || retiring || failure is not null)
        {
            return Admission.Retiring;
        }

        if (!ready)
        {
            return Admission.NotReady;
        }

        var full = runs.Count >= MaxRuns || runs.Values.Count(run => run.Document.State == RunStates.Running) >= config.Concurrency;
        return starting && full ? Admission.Busy : null;
    }

    private void Drop(Run run)
    {
        try
        {
            files.Delete(run.Id);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            Words.Say($"cannot delete refused run {run.Id}: {e.Message}");
        }

        lock (gate)
        {
            runs.Remove(run.Id);
        }

        run.Admit(false);
    }

    private string State()
    {
        if (stopping)
        {
            return childDocument.Running ? States.Stopping : States.Ended;
        }

        return failure is not null ? States.Failed : retiring ? States.Retiring : ready ? States.Ready : States.Starting;
    }

    /// <summary>Call with the lock held, after each change that others should see.</summary>
    private void Change()
    {
        version++;
        changed.TrySetResult();
        changed = new(TaskCreationOptions.RunContinuationsAsynchronously);
        var now = (State(), failure, childDocument, epoch);
        if (now != shown || stopped.Task.IsCompleted)
        {
            shown = now;
            turned.TrySetResult();
            turned = new(TaskCreationOptions.RunContinuationsAsynchronously);
        }
    }

    /// <summary>A relay that is started again in its box still refuses what it refused before.</summary>
    private long EarlierEpoch()
    {
        try
        {
            return JsonSerializer.Deserialize(File.ReadAllBytes(box.StatusPath), Json.Default.StatusDocument)?.Epoch ?? 0;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or JsonException)
        {
            return 0;
        }
    }
}
