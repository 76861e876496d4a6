using System.Collections.Concurrent;
using System.Diagnostics;
using System.Net;

namespace GpuTasks.SystemTests;

/// <summary>
/// The store dies, stands still or has no room under load: submits are put off, runs go on, and what was accepted is there
/// afterwards. A submit that was put off may have been stored all the same; it then runs once like every other.
/// </summary>
public sealed class StoreFaultTests
{
    private const string Function = "faults";
    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(2);

    // The promise is 5 s; a busy machine adds to it, and what is not limited takes 30 s.
    private static readonly TimeSpan AnswerLimit = TimeSpan.FromSeconds(15);

    [Fact]
    public async Task PostgreSql_killed_and_started_again_under_load_loses_nothing()
    {
        Assert.SkipUnless(Environment.UserName == "root", "Only root can start a PostgreSQL of its own.");
        await using var server = await PostgresServer.MakeAsync("127.0.0.1", Machine.FreePort());
        await using var platform = await StartAsync(("GpuTasks:Store:Provider", "PostgreSql"), ("GpuTasks:Store:ConnectionString", server.ConnectionString));
        await using var load = new Load(platform.Client);
        await load.AcceptedAsync(30);
        await server.KillAsync();
        await load.PutOffAsync(10);
        await server.StartAsync();
        await load.AcceptedAsync(30);
        await load.CheckAsync(platform);
    }

    [Fact]
    public async Task PostgreSql_that_stands_still_puts_submits_off_and_loses_nothing()
    {
        Assert.SkipUnless(Environment.UserName == "root", "Only root can start a PostgreSQL of its own.");
        await using var server = await PostgresServer.MakeAsync("127.0.0.1", Machine.FreePort());
        await using var platform = await StartAsync(("GpuTasks:Store:Provider", "PostgreSql"), ("GpuTasks:Store:ConnectionString", server.ConnectionString));
        await using var load = new Load(platform.Client);
        await load.AcceptedAsync(30);
        server.Freeze(frozen: true);
        await load.PutOffAsync(8);
        server.Freeze(frozen: false);
        await load.AcceptedAsync(30);
        await load.CheckAsync(platform);
    }

    [Fact]
    public async Task Full_disk_under_SQLite_puts_submits_off_and_loses_nothing()
    {
        var folder = Directory.CreateTempSubdirectory("gputasks-disk-").FullName;
        var (code, output) = Environment.UserName == "root" ? await Machine.RunAsync("mount", ["-t", "tmpfs", "-o", "size=12m", "gputasks-test", folder], Patience) : (1, "not root");
        try
        {
            Assert.SkipUnless(code == 0, $"A file system of its own cannot be mounted here: {output}");
            await using var platform = await StartAsync(("GpuTasks:Store:Path", Path.Combine(folder, "gputasks.db")));
            await using var load = new Load(platform.Client);
            await load.AcceptedAsync(30);
            var ballast = Path.Combine(folder, "ballast");
            Fill(ballast);
            await load.PutOffAsync(10);
            File.Delete(ballast);
            await load.AcceptedAsync(30);
            await load.CheckAsync(platform);
        }
        finally
        {
            if (code == 0)
            {
                await Machine.RunAsync("umount", [folder], Patience);
            }

            Directory.Delete(folder, recursive: true);
        }
    }

    private static void Fill(string path)
    {
        using var file = new FileStream(path, FileMode.Create, FileAccess.Write, FileShare.None, bufferSize: 0);
        try
        {
            while (true)
            {
                file.Write(new byte[4_096]);
            }
        }
        catch (IOException)
        {
            // Full, as wanted.
        }
    }

    /// <summary>A platform with a run that outlasts the fault.</summary>
    private static async Task<Platform> StartAsync(params (string, string)[] store)
    {
        var platform = await Platform.StartAsync(store);
        try
        {
            await platform.Client.CreateEchoAsync(Function, change: definition => definition["instanceConcurrency"] = 20);
            await platform.Client.AcceptedAsync(Function, "long", """{"mode":"sleep","seconds":20}""");
            await platform.Client.UntilAsync(Function, "long", "Running");
            return platform;
        }
        catch
        {
            await platform.DisposeAsync();
            throw;
        }
    }

    /// <summary>Four callers that submit one task after another and never repeat an id.</summary>
    private sealed class Load : IAsyncDisposable
    {
        private static readonly string Text = new('x', 2_000);
        private readonly ConcurrentQueue<string> accepted = [];
        private readonly ConcurrentQueue<(Answer Answer, TimeSpan Took)> putOff = [];
        private readonly CancellationTokenSource stop = new();
        private readonly Client client;
        private readonly Task[] callers;

        public Load(Client client)
        {
            this.client = client;
            callers = [.. Enumerable.Range(0, 4).Select(CallAsync)];
        }

        /// <summary>Waits for so many more to be accepted.</summary>
        public Task AcceptedAsync(int more) => MoreAsync("accepted submits", () => accepted.Count, more);

        /// <summary>Waits for so many more to be put off.</summary>
        public Task PutOffAsync(int more) => MoreAsync("submits put off", () => putOff.Count, more);

        /// <summary>Ends the load, waits for every accepted task and looks at what happened.</summary>
        public async Task CheckAsync(Platform platform)
        {
            await stop.CancelAsync();
            await Task.WhenAll(callers);
            foreach (var (answer, took) in putOff)
            {
                Assert.Equal((HttpStatusCode.ServiceUnavailable, "ResourceThrottled"), (answer.Status, answer.Code));
                Assert.True(answer.Headers.RetryAfter?.Delta is { } delta && delta >= TimeSpan.FromSeconds(1), answer.Headers.ToString());
                Assert.True(took < AnswerLimit, $"It took {took}.");
            }

            // The run that the fault met was not disturbed.
            var run = await platform.Client.UntilAsync(Function, "long", patience: Patience);
            Assert.Equal("Succeeded", run.Status);
            Assert.Equal(1, run.Events.Count(status => status == "Running"));

            await Eventually.ComesAsync("the end of all tasks", Patience, () => platform.Client.CountsAsync(Function), counts => counts is (0, 0, > 0));
            var tasks = (await platform.Client.ListAsync(Function)).ToDictionary(task => task.Id);
            Assert.All(accepted, id => Assert.Equal("Succeeded", tasks[id].Status));
            Assert.All(tasks.Values, task => Assert.Equal("Succeeded", task.Status));
            await platform.Client.DeleteAsync(Function);
        }

        public async ValueTask DisposeAsync()
        {
            await stop.CancelAsync();
            await Task.WhenAll(callers).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            stop.Dispose();
        }

        private static async Task MoreAsync(string what, Func<int> count, int more)
        {
            var wanted = count() + more;
            await Eventually.ComesAsync($"{wanted} {what}", Patience, () => Task.FromResult(count()), now => now >= wanted);
        }

        private async Task CallAsync(int caller)
        {
            for (var n = 0; !stop.IsCancellationRequested; n++)
            {
                var id = $"c{caller}-{n}";
                var began = Stopwatch.GetTimestamp();
                var answer = await client.SubmitAsync(Function, id, Text);
                if (answer.Status == HttpStatusCode.Accepted)
                {
                    accepted.Enqueue(id);
                }
                else
                {
                    putOff.Enqueue((answer, Stopwatch.GetElapsedTime(began)));
                }

                await Task.Delay(30);
            }
        }
    }
}
