using System.Collections.Concurrent;
using System.Globalization;
using System.Net;
using System.Text.Json.Nodes;

namespace GpuTasks.SystemTests;

/// <summary>What becomes of a task of some kind when nothing is lost and nothing doubled.</summary>
/// <param name="Name">Kind.</param>
/// <param name="Function">Function that it is sent to.</param>
/// <param name="Ask">What the function is asked to do.</param>
/// <param name="Ends">Final statuses that are right.</param>
/// <param name="Runs">How often the function begins it, neither more nor less.</param>
/// <param name="Weight">How many of a hundred are of it.</param>
/// <param name="MayRunAgain">True if the platform may give a run up on proof and begin another, after the one before it ended.</param>
internal sealed record Kind(string Name, string Function, Func<Random, string> Ask, string[] Ends, int Runs, int Weight, bool MayRunAgain = false);

/// <summary>One task as its caller knows it.</summary>
internal sealed class SentTask(Kind kind, string id)
{
    public Kind Kind => kind;

    public string Id => id;

    /// <summary>When its caller first tried to send it, in milliseconds of the monotonic clock.</summary>
    public long SentAt { get; } = Environment.TickCount64;

    /// <summary>True once a caller was told that it is taken.</summary>
    public bool Accepted { get; set; }

    /// <summary>How many submits of it were answered 202.</summary>
    public int Acceptances { get; set; }

    /// <summary>True if a submit of it had no answer, so that a further 202 may be the first one's.</summary>
    public bool Uncertain { get; set; }

    /// <summary>When a stop of it was confirmed, in milliseconds of the monotonic clock.</summary>
    public long? StoppedAt { get; set; }

    /// <summary>The first final status that any caller was shown.</summary>
    public string? ShownEnd { get; set; }
}

/// <summary>Callers of all sorts, who know only HTTP and repeat what was not answered.</summary>
internal sealed class Load : IDisposable
{
    /// <summary>Functions all trace their runs here, which <see cref="Recorder"/> keeps.</summary>
    private const string Trace = "/.gputasks/trace";

    /// <summary>All functions.</summary>
    public static readonly string[] Functions = ["mix", "tells", "hooks", "short", "brief", "hears"];

    private static readonly Kind[] Kinds =
    [
        new("echo", "mix", _ => """{"mode":"echo"}""", ["Succeeded"], 1, 20),
        new("sleep", "mix", random => Sleep(0.3 + (random.NextDouble() * 3)), ["Succeeded"], 1, 30),
        new("long", "mix", random => Sleep(20 + (random.NextDouble() * 20)), ["Succeeded"], 1, 8),
        new("told", "tells", random => Sleep(random.NextDouble()), ["Succeeded"], 1, 7),
        new("hook", "hooks", random => Sleep(random.NextDouble()), ["Succeeded"], 1, 5),
        new("bad-hook", "hooks", _ => """{"mode":"fail"}""", ["Failed"], 1, 2),
        new("flaky", "mix", _ => """{"mode":"flaky"}""", ["Succeeded"], 2, 5),
        new("failing", "mix", _ => """{"mode":"fail"}""", ["Failed"], 2, 4),
        new("crash", "mix", _ => """{"mode":"crash","exitCode":3}""", ["Failed"], 2, 2),
        new("over", "short", _ => Sleep(60), ["Failed"], 1, 3),
        new("oom", "short", _ => """{"mode":"oom"}""", ["Failed"], 1, 2),
        new("bomb", "short", _ => """{"mode":"bomb"}""", ["Failed"], 1, 1),
        new("lost", "brief", random => Sleep(10 + (random.NextDouble() * 50)), ["Succeeded"], 1, 5, MayRunAgain: true),
        new("flood", "mix", _ => """{"mode":"flood","bytes":2000000}""", ["Succeeded"], 1, 3),
        new("race", "mix", _ => Sleep(1), ["Succeeded", "Stopped"], 1, 6),
        // It succeeds only if faults keep its stop away for most of its 100 s, which the checker measures.
        new("stubborn", "mix", _ => """{"mode":"ignore-term","seconds":100}""", ["Stopped", "Succeeded"], 1, 2),
        new("twice", "mix", random => Sleep(random.NextDouble()), ["Succeeded"], 1, 6),
    ];

    private const int MostBombs = 3;

    /// <summary>
    /// Callers hold back while so many of their tasks have not ended: three for each of the 16 places for an instance that the two
    /// nodes have. So there is a queue at all times, and it stays one that can be worked off, however long something was away.
    /// </summary>
    private const int MostOpen = 48;

    private readonly Lab lab;
    private readonly Random random;
    private readonly Client[] raw;
    private readonly ConcurrentDictionary<string, SentTask> sent = new();
    private readonly ConcurrentBag<Task> callers = [];
    private int number;
    private int bombs;

    public Load(Lab lab, int seed)
    {
        this.lab = lab;
        random = new Random(seed);
        raw = [.. lab.Clients.Select(client => new Client(client.Address, Platform.ApiKey, TimeSpan.FromSeconds(10)))];
    }

    /// <summary>All that was sent so far.</summary>
    public ICollection<SentTask> Sent => sent.Values;

    /// <summary>Violations that showed while it ran.</summary>
    public ConcurrentQueue<string> Violations { get; } = new();

    /// <summary>When each gateway answered a question about a task, in milliseconds of the monotonic clock.</summary>
    public ConcurrentQueue<(int Gateway, long At)> Answered { get; } = new();

    /// <summary>Makes the functions.</summary>
    public async Task PrepareAsync()
    {
        var client = lab.Clients[0];
        await client.CreateEchoAsync("hears", environment: [("TRACE_FILE", Trace)], change: definition =>
        {
            definition.Remove("gpuConfig");
            definition["instanceConcurrency"] = 8;
            definition["cpu"] = 0.1;
        });
        await client.CreateEchoAsync("mix", retries: 1, environment: [("TRACE_FILE", Trace)], change: Small(120));
        await client.CreateEchoAsync("tells", environment: [("TRACE_FILE", Trace)], change: Small(60));
        await client.CreateEchoAsync("hooks", environment: [("TRACE_FILE", Trace)], change: Small(60));
        await client.CreateEchoAsync("short", environment: [("TRACE_FILE", Trace)], change: Small(3));
        await client.CreateEchoAsync("brief", environment: [("TRACE_FILE", Trace)], change: definition =>
        {
            Small(120)(definition);
            definition["nodeLostTimeout"] = 20;
        });
        var secret = await client.SendAsync(HttpMethod.Post, "/v1/webhooks/secret:rotate");
        Assert.True(secret.Status == HttpStatusCode.OK, secret.Text);
        lab.Receiver.Secret = (string)secret.Json["secret"]!;
        await TellAsync("tells", "acs:fc:local-1:1000000000000001:functions/hears", "onSuccess");
        await TellAsync("hooks", lab.Receiver.Target.ToString(), "onSuccess", "onFailure");

        async Task TellAsync(string function, string target, params string[] ends)
        {
            var configured = await client.SendJsonAsync(HttpMethod.Put, $"functions/{function}/async-invoke-config", new JsonObject
            {
                ["asyncTask"] = true,
                ["maxAsyncRetryAttempts"] = 0,
                ["destinationConfig"] = new JsonObject(ends.Select(end => KeyValuePair.Create(end, (JsonNode?)new JsonObject { ["destination"] = target }))),
            });
            Assert.True(configured.Status == HttpStatusCode.OK, configured.Text);
        }

        static Action<JsonObject> Small(int timeout) => definition =>
        {
            definition["gpuConfig"]!["gpuMemorySize"] = 4096;
            definition["cpu"] = 0.25;
            definition["timeout"] = timeout;
        };
    }

    /// <summary>Sends tasks of all kinds until told to end; then waits for the callers that still repeat something.</summary>
    /// <param name="perSecond">How many tasks in a second, unless the callers hold back.</param>
    /// <param name="ending">Ends it.</param>
    public async Task RunAsync(double perSecond, CancellationToken ending)
    {
        var watching = Task.WhenAll(Enumerable.Range(0, raw.Length).Select(gateway => WatchAsync(gateway, ending)));
        while (!ending.IsCancellationRequested)
        {
            if (sent.Values.Count(IsOpen) < MostOpen)
            {
                callers.Add(SendAsync(PickKind()));
            }

            await Task.Delay(TimeSpan.FromSeconds(-Math.Log(1 - random.NextDouble()) / perSecond), CancellationToken.None);
        }

        await watching;
        await Task.WhenAll(callers);
    }

    public void Dispose()
    {
        foreach (var client in raw)
        {
            client.Dispose();
        }
    }

    /// <summary>Set when the whole test is given up: then nobody repeats anything.</summary>
    private static CancellationToken Aborted => TestContext.Current.CancellationToken;

    private static bool IsOpen(SentTask task) => task.ShownEnd is null;

    private static string Sleep(double seconds) => string.Create(CultureInfo.InvariantCulture, $$"""{"mode":"sleep","seconds":{{seconds:0.00}}}""");

    private Kind PickKind()
    {
        var at = random.Next(Kinds.Sum(kind => kind.Weight));
        var kind = Kinds.First(kind => (at -= kind.Weight) < 0);

        // A few show what they can; more would only slow the machine that everything shares.
        return kind.Name == "bomb" && ++bombs > MostBombs ? Kinds[0] : kind;
    }

    private async Task SendAsync(Kind kind)
    {
        var id = string.Create(CultureInfo.InvariantCulture, $"{kind.Name}-{++number:00000}");
        var ask = kind.Ask(random);
        var first = random.Next(raw.Length);
        var task = new SentTask(kind, id);
        sent[id] = task;
        await Task.Yield();
        await (kind.Name == "twice" ? Task.WhenAll(SubmitAsync(task, ask, first), SubmitAsync(task, ask, first + 1)) : SubmitAsync(task, ask, first));
        if (kind.Name is "race" or "stubborn" && task.Accepted)
        {
            await StopAsync(task, first);
        }
    }

    /// <summary>Submits until it is known that the task is taken: what is not answered is repeated under the same id, at the other gateway.</summary>
    private async Task SubmitAsync(SentTask task, string ask, int gateway)
    {
        for (var patience = DateTime.UtcNow.AddMinutes(5); DateTime.UtcNow < patience; gateway++)
        {
            try
            {
                var answer = await raw[gateway % raw.Length].SubmitAsync(task.Kind.Function, task.Id, ask);
                lock (task)
                {
                    switch (answer.Status)
                    {
                        case HttpStatusCode.Accepted:
                            task.Accepted = true;
                            task.Acceptances++;
                            return;
                        case HttpStatusCode.Conflict:
                            task.Accepted = true;
                            return;
                        case HttpStatusCode.ServiceUnavailable or HttpStatusCode.TooManyRequests:
                            task.Uncertain = true;
                            break;
                        default:
                            Violations.Enqueue($"{task.Id}: a submit was answered {(int)answer.Status} {answer.Text}");
                            return;
                    }
                }
            }
            catch (Exception e) when (e is HttpRequestException or OperationCanceledException)
            {
                lock (task)
                {
                    task.Uncertain = true;
                }
            }

            await Task.Delay(400, Aborted);
        }
    }

    private async Task StopAsync(SentTask task, int gateway)
    {
        // A stubborn one must have begun to ignore signals; a race is stopped about when it ends.
        var wait = task.Kind.Name == "race" ? TimeSpan.FromSeconds(60) : TimeSpan.FromMinutes(3);
        for (var patience = DateTime.UtcNow + wait; DateTime.UtcNow < patience; await Task.Delay(150, Aborted))
        {
            if (await StatusAsync(task, gateway) is "Running")
            {
                await Task.Delay(task.Kind.Name == "race" ? 900 : 1_500);
                break;
            }
        }

        for (var patience = DateTime.UtcNow.AddMinutes(5); DateTime.UtcNow < patience; gateway++)
        {
            try
            {
                var answer = await raw[gateway % raw.Length].StopAsync(task.Kind.Function, task.Id);
                if (answer.Status is HttpStatusCode.OK or HttpStatusCode.NoContent)
                {
                    task.StoppedAt = Environment.TickCount64;
                    return;
                }

                if (answer.Status == HttpStatusCode.BadRequest && task.Kind.Name == "race")
                {
                    return; // It had ended.
                }

                if (answer.Status != HttpStatusCode.ServiceUnavailable)
                {
                    Violations.Enqueue($"{task.Id}: a stop was answered {(int)answer.Status} {answer.Text}");
                    return;
                }
            }
            catch (Exception e) when (e is HttpRequestException or OperationCanceledException)
            {
                // Repeated at the other gateway.
            }

            await Task.Delay(300, Aborted);
        }
    }

    /// <summary>Asks for tasks all the time: that an answer comes, which of them have ended, and that what was final stays so.</summary>
    private async Task WatchAsync(int gateway, CancellationToken ending)
    {
        var pick = new Random(gateway);
        while (!ending.IsCancellationRequested)
        {
            // Those that ended are as many as there were, and are asked for less often.
            var wantsOpen = pick.Next(4) > 0;
            var known = sent.Values.Where(task => task.Accepted && IsOpen(task) == wantsOpen).ToArray();
            if (known.Length > 0)
            {
                await StatusAsync(known[pick.Next(known.Length)], gateway);
            }

            await Task.Delay(100, CancellationToken.None);
        }
    }

    private async Task<string?> StatusAsync(SentTask task, int gateway)
    {
        try
        {
            var answer = await raw[gateway % raw.Length].SendAsync(HttpMethod.Get, $"functions/{task.Kind.Function}/async-tasks/{task.Id}");
            switch (answer.Status)
            {
                case HttpStatusCode.OK:
                    Answered.Enqueue((gateway % raw.Length, Environment.TickCount64));
                    var seen = new SeenTask(answer.Json);
                    Note(task, seen);
                    return seen.Status;
                case HttpStatusCode.ServiceUnavailable:
                    return null;
                default:
                    Violations.Enqueue($"{task.Id}: a question about the accepted task was answered {(int)answer.Status} {answer.Text}");
                    return null;
            }
        }
        catch (Exception e) when (e is HttpRequestException or OperationCanceledException)
        {
            return null;
        }
    }

    /// <summary>True if a task of the load is shown as final by any gateway.</summary>
    public async Task<bool> HasEndedAsync(string id)
    {
        if (sent.TryGetValue(id, out var task))
        {
            await Task.WhenAll(Enumerable.Range(0, raw.Length).Select(gateway => StatusAsync(task, gateway)));
        }

        return task is not null && !IsOpen(task);
    }

    /// <summary>A final status never changes.</summary>
    public void Note(SentTask task, SeenTask seen)
    {
        if (!seen.IsFinal && task.ShownEnd is null)
        {
            return;
        }

        var first = task.ShownEnd ??= seen.Status;
        if (first != seen.Status)
        {
            Violations.Enqueue($"{task.Id}: was {first} and is {seen.Status}");
        }
    }
}
