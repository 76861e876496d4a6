using System.Globalization;
using System.Net;
using System.Text;
using System.Text.RegularExpressions;

namespace GpuTasks.SystemTests;

/// <summary>Proves at the end, and looks all the while, that what must always hold did hold.</summary>
internal sealed partial class Checker(Lab lab, Load load, Recorder recorder, Faults faults)
{
    private const int GraceMs = 10_000;
    private readonly List<string> violations = [];
    private long largestMemoryMiB;

    /// <summary>Looks at cards and quota, now and then, until told to end.</summary>
    public async Task LookAsync(CancellationToken ending)
    {
        while (!ending.IsCancellationRequested)
        {
            try
            {
                var answer = await lab.Operator.SendAsync(HttpMethod.Get, "/v1/nodes");
                if (answer.Status == HttpStatusCode.OK)
                {
                    foreach (var card in answer.Json["nodes"]!.AsArray().SelectMany(node => node!["cards"]!.AsArray()))
                    {
                        if ((int)card!["leasedMiB"]! > (int)card["memoryMiB"]!)
                        {
                            Add($"card {card["uuid"]} is leased with {card["leasedMiB"]} of {card["memoryMiB"]} MiB");
                        }
                    }
                }

                foreach (var member in lab.Members.Where(member => member.Id > 0))
                {
                    largestMemoryMiB = Math.Max(largestMemoryMiB, MemoryMiB(member.Id));
                }
            }
            catch (Exception e) when (e is HttpRequestException or OperationCanceledException)
            {
                // Looked at again in a moment.
            }

            await Task.Delay(1_000, CancellationToken.None);
        }
    }

    /// <summary>Waits until the load's tasks have ended, and checks everything.</summary>
    public async Task<(string Text, int Violations)> ReportAsync(int seed, string again, TimeSpan patience)
    {
        var settled = Environment.TickCount64;
        var seen = await EndsAsync(patience);
        settled = Environment.TickCount64 - settled;
        var runs = recorder.Runs();
        var byTask = runs.ToLookup(run => run.Task);
        foreach (var task in load.Sent)
        {
            if (!task.Accepted)
            {
                Add($"{task.Id}: five minutes of submits were not answered");
                continue;
            }

            if (!seen.TryGetValue(task.Id, out var end))
            {
                Add($"{task.Id}: was accepted and is not listed");
                continue;
            }

            load.Note(task, end);
            CheckEnd(task, end, [.. byTask[task.Id].OrderBy(run => run.Began)]);
            if (task is { Acceptances: > 1, Uncertain: false })
            {
                Add($"{task.Id}: was accepted {task.Acceptances} times");
            }
        }

        var retold = await CheckCalledAsync(seen, runs) + CheckTold(seen);
        if (faults.ReportedTwice.IsEmpty && faults.Happened.Any(fault => fault.Kind == "report-twice"))
        {
            Add("report-twice: no report was made twice, so nothing is shown of what happens then");
        }

        await CheckCountsAsync();
        await CheckAccountsAsync();
        await CheckEmptyAsync();
        foreach (var early in load.Violations)
        {
            Add(early);
        }

        return (Text(seed, again, seen, runs, settled, retold), violations.Count);
    }

    /// <summary>Tasks whose end a destination is to hear of: those of a function that did not end by a stop.</summary>
    private IEnumerable<SeenTask> Due(string function, Dictionary<string, SeenTask> seen) =>
        from task in load.Sent
        where task.Kind.Function == function
        let end = seen.GetValueOrDefault(task.Id)
        where end is not null && task.Kind.Ends.Contains(end.Status)
        select end;

    /// <summary>What a function was told is a task of its own, under an id that is the same for each try.</summary>
    /// <returns>How many were told more than once.</returns>
    private async Task<int> CheckCalledAsync(Dictionary<string, SeenTask> seen, List<SeenRun> runs)
    {
        var told = await lab.Clients[0].ListAsync("hears");
        var due = Due("tells", seen).ToList();
        if (told.Count != due.Count)
        {
            Add($"{due.Count} tasks had a function to tell, and it was told {told.Count} times");
        }

        CheckStatusOf(due);
        return runs.Count(run => told.Any(task => task.Id == run.Task)) - told.Count;
    }

    /// <summary>Each end was told to the receiver at least once, under one id, and nothing else was.</summary>
    /// <returns>How many were told more than once.</returns>
    private int CheckTold(Dictionary<string, SeenTask> seen)
    {
        var due = Due("hooks", seen).ToDictionary(task => task.Id);
        var heard = lab.Receiver.Heard.ToLookup(message => message.Task);
        foreach (var task in due.Values)
        {
            var ids = heard[task.Id].Select(message => message.Id).Distinct().ToList();
            if (!ids.Any(lab.Receiver.Taken.ContainsKey))
            {
                Add($"{task.Id}: its receiver took no message of its end, of {heard[task.Id].Count()} that it was sent");
            }

            if (ids.Count > 1)
            {
                Add($"{task.Id}: its receiver was told under {ids.Count} ids: {string.Join(", ", ids)}");
            }
        }

        foreach (var message in heard.SelectMany(messages => messages))
        {
            if (!due.TryGetValue(message.Task, out var task))
            {
                Add($"{message.Task}: a receiver was told of its end, which it did not have");
            }
            else if ((message.Condition.Length == 0) != (task.Status == "Succeeded"))
            {
                Add($"{message.Task}: ended {task.Status}, and its receiver was told '{message.Condition}'");
            }

            if (!message.Signed)
            {
                Add($"{message.Task}: a message of its end has a wrong signature");
            }
        }

        foreach (var shared in lab.Receiver.Heard.GroupBy(message => message.Id).Where(messages => messages.Select(message => message.Task).Distinct().Count() > 1))
        {
            Add($"{shared.Key}: is the id of messages of several tasks: {string.Join(", ", shared.Select(message => message.Task).Distinct())}");
        }

        CheckStatusOf(due.Values);
        return lab.Receiver.Heard.Count - lab.Receiver.Heard.Select(message => message.Id).Distinct().Count();
    }

    private void CheckStatusOf(IEnumerable<SeenTask> due)
    {
        foreach (var task in due.Where(task => DestinationStatusOf(task) != "Succeeded"))
        {
            Add($"{task.Id}: its destination was told, and destinationStatus is {DestinationStatusOf(task)}");
        }
    }

    private static string? DestinationStatusOf(SeenTask task) => (string?)task.Json["destinationStatus"];

    private void CheckEnd(SentTask task, SeenTask end, List<SeenRun> runs)
    {
        if (!end.IsFinal)
        {
            Add($"{task.Id}: did not end; it is {end.Status}");
            return;
        }

        if (!task.Kind.Ends.Contains(end.Status))
        {
            Add($"{task.Id}: ended {end.Status}, not {string.Join(" or ", task.Kind.Ends)}: {end.Error}");
        }

        for (var n = 1; n < runs.Count; n++)
        {
            if (runs[n].Began < runs[n - 1].LastSeen)
            {
                Add($"{task.Id}: a run began {runs[n - 1].LastSeen - runs[n].Began} ms before the one before it was last seen alive");
            }
        }

        // What is stopped may be so before it begins; everything else runs exactly as often as it must, whatever was restarted under it.
        if (runs.Count != task.Kind.Runs && !(runs.Count == 0 && end.Status == "Stopped") && !(task.Kind.MayRunAgain && runs.Count > task.Kind.Runs))
        {
            Add($"{task.Id}: ran {runs.Count} times, not {task.Kind.Runs}: {string.Join(", ", runs.Select(run => $"{run.Instance} from {run.Began} to {run.LastSeen}{(run.Answered ? "" : " unanswered")}"))}; {string.Join(", ", end.Events)}; {end.Error}");
        }

        foreach (var run in runs)
        {
            var lived = run.LastSeen - run.Began;
            if (task.Kind.Function == "short" && lived > 3_000 + 5_000)
            {
                Add($"{task.Id}: has a limit of 3 s and ran for {lived} ms");
            }

            // However it ended: a success stands only if the run came to its end before its stop could reach it, and the same bound
            // holds for when that is. A stubborn task runs 100 s, so it succeeds only if faults held its stop up for most of them.
            if (task.StoppedAt is { } stoppedAt && run.LastSeen > stoppedAt + GraceMs + 5_000 + DelayByFaults(stoppedAt))
            {
                Add($"{task.Id}: was still alive {run.LastSeen - stoppedAt} ms after its stop was confirmed");
            }
        }
    }

    /// <summary>A stop that a fault holds up reaches its node when that is over and a silo has been started again.</summary>
    private long DelayByFaults(long at) => faults.Happened.Where(fault => fault.To + 30_000 >= at && fault.From <= at + GraceMs + 5_000).Select(fault => fault.To + 60_000 - at).DefaultIfEmpty(0).Max();

    private async Task<Dictionary<string, SeenTask>> EndsAsync(TimeSpan patience)
    {
        for (var giveUpAt = DateTime.UtcNow + patience; ;)
        {
            var seen = new Dictionary<string, SeenTask>();
            foreach (var function in Load.Functions.Where(function => function != "hears"))
            {
                foreach (var task in await lab.Clients[0].ListAsync(function))
                {
                    if (!seen.TryAdd(task.Id, task))
                    {
                        Add($"{task.Id}: is listed twice");
                    }
                }
            }

            var told = await lab.Clients[0].ListAsync("hears");
            var open = seen.Values.Concat(told).Where(task => !task.IsFinal).ToList();
            var untold = Due("tells", seen).Concat(Due("hooks", seen)).Where(task => DestinationStatusOf(task) is "" or "Retrying");
            if ((open.Count == 0 && !untold.Any()) || DateTime.UtcNow > giveUpAt)
            {
                return seen;
            }

            await Task.Delay(1_000, TestContext.Current.CancellationToken);
        }
    }

    private async Task CheckCountsAsync()
    {
        foreach (var function in Load.Functions)
        {
            var listed = await lab.Clients[1].ListAsync(function);
            var counted = await lab.Clients[1].CountsAsync(function);
            var done = listed.Count(task => task.IsFinal);
            if (counted.Done != done || counted.Waiting + counted.Running != listed.Count - done)
            {
                Add($"{function}: counts say {counted}, the list has {listed.Count} with {done} ended");
            }
        }
    }

    private async Task CheckAccountsAsync()
    {
        foreach (var task in load.Sent.Where(task => task.Accepted).Take(20))
        {
            if (await lab.Other.StatusOfAsync($"/2023-03-30/functions/{task.Kind.Function}/async-tasks/{task.Id}") != HttpStatusCode.NotFound)
            {
                Add($"{task.Id}: is shown to another account");
            }
        }
    }

    /// <summary>With the functions everything goes: no lease, no container and no folder is left held by nobody.</summary>
    private async Task CheckEmptyAsync()
    {
        foreach (var function in Load.Functions)
        {
            await lab.Clients[0].DeleteAsync(function);
        }

        try
        {
            await Eventually.ComesAsync("empty nodes", TimeSpan.FromMinutes(2), LeftAsync, left => left.Length == 0);
        }
        catch (TimeoutException e)
        {
            Add(e.Message);
        }
    }

    private async Task<string> LeftAsync()
    {
        var left = new StringBuilder();
        var answer = await lab.Operator.SendAsync(HttpMethod.Get, "/v1/nodes");
        foreach (var node in answer.Json["nodes"]!.AsArray())
        {
            foreach (var lease in node!["leases"]!.AsArray())
            {
                left.Append(CultureInfo.InvariantCulture, $"lease {lease!["instanceId"]} on {node["node"]}; ");
            }
        }

        for (var node = 0; node < lab.Nodes.Count; node++)
        {
            left.AppendJoin("", (await lab.ContainersAsync(node)).Select(name => $"container {name}; "));
            left.AppendJoin("", Directory.GetDirectories(lab.InstancesOf(node)).Select(path => $"folder {Path.GetFileName(path)}; "));
        }

        return left.ToString();
    }

    private string Text(int seed, string again, Dictionary<string, SeenTask> seen, List<SeenRun> runs, long settledMs, int retold)
    {
        var pace = Pace.Of(load.Sent, seen, runs);
        var text = new StringBuilder();
        text.AppendLine(CultureInfo.InvariantCulture, $"Chaos with seed {seed}: {load.Sent.Count} tasks sent, {runs.Count} runs, {faults.Happened.Count} faults, settled {settledMs / 1000.0:0.0} s after the last.");
        text.AppendLine(again);
        text.AppendLine("Tasks by kind and end:");
        foreach (var kind in load.Sent.GroupBy(task => task.Kind.Name).OrderBy(kind => kind.Key, StringComparer.Ordinal))
        {
            var ends = kind.GroupBy(task => seen.GetValueOrDefault(task.Id)?.Status ?? "missing").Select(end => $"{end.Key} {end.Count()}");
            text.AppendLine(CultureInfo.InvariantCulture, $"  {kind.Key,-10} {kind.Count(),5}  {string.Join(", ", ends)}");
        }

        text.AppendLine("Faults by kind, and the longest recovery in seconds where nothing else went wrong meanwhile: of the gateways' answers, of the queue, of the node:");
        foreach (var kind in faults.Happened.GroupBy(fault => fault.Kind).OrderBy(kind => kind.Key, StringComparer.Ordinal))
        {
            var alone = kind.Where(IsAlone).ToList();
            text.AppendLine(CultureInfo.InvariantCulture, $"  {kind.Key,-23} {kind.Count(),3}   {Shown(alone.Select(Silence)),6} {Shown(alone.Select(Standstill)),6} {Shown(faults.NodeRecoveries.Where(node => node.Kind == kind.Key).Select(node => node.Seconds)),6}");
        }

        text.AppendLine("Minute by minute, with its length in seconds: tasks that ended; on average, runs that lived and tasks that had not ended; faults that began:");
        foreach (var minute in pace.Minutes)
        {
            text.AppendLine(CultureInfo.InvariantCulture, $"  {minute.Number,3} {minute.Seconds,3:0}   {minute.Ended,4} {minute.Running,6:0.0} {minute.Open,6:0.0}   {string.Join(", ", faults.Happened.Where(fault => pace.MinuteOf(fault.From) == minute.Number).Select(fault => fault.Kind))}");
        }

        text.AppendLine(CultureInfo.InvariantCulture, $"Tasks ended per minute while callers sent: {pace.FirstThird:0.0} in the first third, {pace.LastThird:0.0} in the last.");
        text.AppendLine("Processes that ended, by fault or because they found themselves declared dead:");
        text.AppendLine("  " + string.Join(", ", lab.Members.Select(member => $"{member.Name} {member.Ends}")));
        text.AppendLine(CultureInfo.InvariantCulture, $"Largest process: {largestMemoryMiB} MiB. Destinations told more than once: {retold}. Ends reported more than once on purpose: {faults.ReportedTwice.Count}.");
        text.AppendLine(violations.Count == 0 ? "No violations." : "Violations:");
        foreach (var violation in violations)
        {
            text.AppendLine($"  {violation}");
            foreach (var line in RequestId().Match(violation) is { Success: true } request ? lab.SaidOf(request.Value) : [])
            {
                text.AppendLine($"    | {line}");
            }
        }

        Figure("chaos.violations", violations.Count, "count");
        Figure("chaos.tasks", load.Sent.Count, "count");
        Figure("chaos.faults", faults.Happened.Count, "count");
        Figure("chaos.settle", settledMs / 1000.0, "s");
        Figure("chaos.pace.first", pace.FirstThird, "1/min");
        Figure("chaos.pace.last", pace.LastThird, "1/min");
        Figure("chaos.recovery.control.max", Longest(["control-kill", "region-kill"], Silence), "s");
        Figure("chaos.recovery.gateway.max", Longest(["gateway-kill"], Silence), "s");
        Figure("chaos.recovery.queue.max", Longest(["region-kill", "region-freeze"], Standstill), "s");
        Figure("chaos.recovery.node.max", faults.NodeRecoveries.Select(node => node.Seconds).DefaultIfEmpty(0).Max(), "s");
        return text.ToString();

        void Figure(string name, double value, string unit) => text.AppendLine(CultureInfo.InvariantCulture, $"figure {name} {value:0.###} {unit}");

        static string Shown(IEnumerable<double> seconds) => seconds.DefaultIfEmpty(-1).Max() is var longest && longest < 0 ? "-" : longest.ToString("0.0", CultureInfo.InvariantCulture);

        double Longest(string[] kinds, Func<(string Kind, long From, long To), double> of) =>
            faults.Happened.Where(fault => kinds.Contains(fault.Kind) && IsAlone(fault)).Select(of).DefaultIfEmpty(0).Max();

        // What two faults take together says nothing of either.
        bool IsAlone((string Kind, long From, long To) fault) =>
            faults.Happened.All(other => other == fault || other.From > Math.Max(fault.To, fault.From + 15_000) || other.To + 15_000 < fault.From);

        // The longest time in which a gateway answered no question about a task.
        double Silence((string Kind, long From, long To) fault) => Enumerable.Range(0, lab.Gateways.Count)
            .Max(gateway => GapOf([.. load.Answered.Where(answer => answer.Gateway == gateway).Select(answer => answer.At)], fault));

        // The longest time in which no run began.
        double Standstill((string Kind, long From, long To) fault) => GapOf([.. runs.Select(run => run.Began)], fault);
    }

    /// <summary>The longest time without an event that reaches into the 15 s after a fault began.</summary>
    private static double GapOf(long[] events, (string Kind, long From, long To) fault)
    {
        long[] near = [fault.From, .. events.Where(at => at > fault.From && at < fault.From + 60_000).Order()];
        var longest = near.Length == 1 ? 60_000L : 0;
        for (var n = 1; n < near.Length && near[n - 1] < fault.From + 15_000; n++)
        {
            longest = Math.Max(longest, near[n] - near[n - 1]);
        }

        return longest / 1000.0;
    }

    private void Add(string violation)
    {
        if (!violations.Contains(violation))
        {
            violations.Add(violation);
        }
    }

    [GeneratedRegex(@"(?<=""RequestId"":"")r[0-9a-f]{32}")]
    private static partial Regex RequestId();

    private static long MemoryMiB(int process)
    {
        try
        {
            var line = File.ReadLines($"/proc/{process}/status").FirstOrDefault(line => line.StartsWith("VmRSS:", StringComparison.Ordinal));
            return line is null ? 0 : long.Parse(line.Split(' ', StringSplitOptions.RemoveEmptyEntries)[1], CultureInfo.InvariantCulture) >> 10;
        }
        catch (IOException)
        {
            return 0;
        }
    }
}
