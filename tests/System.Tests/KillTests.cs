using System.Globalization;
using System.Net;

namespace GpuTasks.SystemTests;

/// <summary>What is left when processes are killed while tasks wait and run.</summary>
public sealed class KillTests
{
    /// <summary>The folder that container and node share, so that a count written in it can be read from outside.</summary>
    private const string CountFile = "/.gputasks/count";

    private static readonly TimeSpan AllDone = TimeSpan.FromMinutes(4);

    [Theory]
    [InlineData("Sqlite")]
    [InlineData("PostgreSql")]
    public async Task Kill_9_with_50_tasks_of_which_10_run_ends_each_exactly_once(string store)
    {
        await using var database = store == "PostgreSql" ? await Database.CreateAsync() : null;
        (string, string)[] settings = database is null ? [] : [("GpuTasks:Store:Provider", store), ("GpuTasks:Store:ConnectionString", database.ConnectionString)];
        await using var platform = await Platform.StartAsync([("GpuTasks:Node:Cards", "fc.gpu.tesla.1:16384x10"), .. settings]);
        await CreateCountedAsync(platform, "long");
        foreach (var id in Ids(50))
        {
            await platform.Client.AcceptedAsync("long", id, """{"mode":"sleep","seconds":10}""");
        }

        // On a busy machine the first may end before the tenth begins.
        var before = await Eventually.ComesAsync("10 that run", AllDone, () => platform.Client.ListAsync("long", "&status=Running"), running => running.Count == 10);
        foreach (var task in before)
        {
            await platform.Client.BegunAsync("long", task.Id);
        }

        var containers = await platform.ContainersAsync();
        Assert.Equal(10, containers.Length);

        await platform.KillAsync();
        Assert.Equal(containers.Order(), (await platform.ContainersAsync()).Order());
        await platform.StartAgainAsync();

        await Eventually.ComesAsync("the end of all", AllDone, () => platform.Client.CountsAsync("long"), counts => counts is (0, 0, 50));
        var ended = await platform.Client.ListAsync("long");
        Assert.Equal(50, ended.Select(task => task.Id).Distinct().Count());
        Assert.All(ended, task => Assert.Equal("Succeeded", task.Status));

        // The instances stay for an idle minute, so all that ever ran is counted in their folders.
        Assert.Equal(Ids(50).Select(id => $"{id} 1"), Counted(platform));
        Assert.Equal(containers.Order(), (await platform.ContainersAsync()).Order());
        foreach (var task in before)
        {
            var whole = await platform.Client.GetTaskAsync("long", task.Id);
            Assert.Equal(task.Instance, whole.Instance);
            Assert.Equal(1, whole.Events.Count(status => status == "Running"));
            Assert.Equal(0, whole.Retries);
        }

        await LeavesNothingAsync(platform, "long");
    }

    [Fact]
    public async Task Kill_9_loses_no_accepted_task()
    {
        await using var platform = await Platform.StartAsync();
        await CreateCountedAsync(platform, "burst");
        var accepted = new List<string>();
        var submitting = Task.Run(async () =>
        {
            foreach (var id in Ids(1_000))
            {
                try
                {
                    if ((await platform.Client.SubmitAsync("burst", id, """{"mode":"echo"}""")).Status == HttpStatusCode.Accepted)
                    {
                        lock (accepted)
                        {
                            accepted.Add(id);
                        }
                    }
                }
                catch (HttpRequestException)
                {
                    return;
                }
            }
        }, TestContext.Current.CancellationToken);
        await Eventually.ComesAsync("40 accepted tasks", AllDone, () => Task.FromResult(Accepted().Length), count => count >= 40);
        await platform.KillAsync();
        await submitting;
        await platform.StartAgainAsync();

        foreach (var id in Accepted())
        {
            var task = await platform.Client.UntilAsync("burst", id, patience: AllDone);
            Assert.Equal("Succeeded", task.Status);
        }

        // A submission whose answer was lost may have been taken too, but nothing ran twice.
        var counted = Counted(platform);
        Assert.Equal(counted.Distinct(), counted);
        await LeavesNothingAsync(platform, "burst");

        string[] Accepted()
        {
            lock (accepted)
            {
                return [.. accepted];
            }
        }
    }

    [Fact]
    public async Task Kill_9_again_and_again_ends_each_task_once()
    {
        await using var platform = await Platform.StartAsync(("GpuTasks:Node:Cards", "fc.gpu.tesla.1:16384x4"));
        await CreateCountedAsync(platform, "often");
        foreach (var id in Ids(24))
        {
            await platform.Client.AcceptedAsync("often", id, """{"mode":"sleep","seconds":1.5}""");
        }

        foreach (var milliseconds in (int[])[2_000, 500, 1_500])
        {
            // The moment is meant to be any moment, so it is not waited for.
            await Task.Delay(milliseconds, TestContext.Current.CancellationToken);
            await platform.KillAsync();
            await platform.StartAgainAsync();
        }

        await Eventually.ComesAsync("the end of all", AllDone, () => platform.Client.CountsAsync("often"), counts => counts is (0, 0, 24));
        Assert.All(await platform.Client.ListAsync("often"), task => Assert.Equal("Succeeded", task.Status));
        var counted = Counted(platform);
        Assert.Equal(counted.Distinct(), counted);
        await LeavesNothingAsync(platform, "often");
    }

    [Fact]
    public async Task Stop_by_SIGTERM_ends_no_run()
    {
        await using var platform = await Platform.StartAsync();
        await CreateCountedAsync(platform, "upgraded");
        await platform.Client.AcceptedAsync("upgraded", "t1", """{"mode":"sleep","seconds":6}""");
        await platform.Client.BegunAsync("upgraded", "t1");

        Assert.Equal(0, await platform.StopAsync());
        Assert.Single(await platform.ContainersAsync());
        await platform.StartAgainAsync();

        Assert.Equal("Succeeded", (await platform.Client.UntilAsync("upgraded", "t1")).Status);
        Assert.Equal(["t1 1"], Counted(platform));
        await LeavesNothingAsync(platform, "upgraded");
    }

    [Fact]
    public async Task Freeze_longer_than_a_relay_may_be_silent_ends_no_run()
    {
        await using var platform = await Platform.StartAsync(("GpuTasks:Node:RelaySilence", "00:00:05"));
        await CreateCountedAsync(platform, "frozen");
        await platform.Client.AcceptedAsync("frozen", "t1", """{"mode":"sleep","seconds":28}""");
        await platform.Client.BegunAsync("frozen", "t1");
        var container = await platform.ContainersAsync();
        await platform.FreezeAsync(TimeSpan.FromSeconds(20)); // Longer than any question to a relay waits for its answer.

        var task = await platform.Client.UntilAsync("frozen", "t1");
        Assert.Equal(("Succeeded", 0), (task.Status, task.Retries));
        Assert.Equal(["t1 1"], Counted(platform));
        Assert.Equal(container, await platform.ContainersAsync());
        await LeavesNothingAsync(platform, "frozen");
    }

    [Fact]
    public async Task Run_that_ended_while_the_platform_was_down_is_reported()
    {
        await using var platform = await Platform.StartAsync();
        await CreateCountedAsync(platform, "down");
        await platform.Client.AcceptedAsync("down", "t1", """{"mode":"sleep","seconds":4}""");
        await platform.Client.BegunAsync("down", "t1");
        await platform.KillAsync();
        await Task.Delay(TimeSpan.FromSeconds(7), TestContext.Current.CancellationToken);
        await platform.StartAgainAsync();

        var task = await platform.Client.UntilAsync("down", "t1");
        Assert.Equal("Succeeded", task.Status);
        Assert.InRange(task.Ran.TotalSeconds, 3.9, 6.9); // Not the time that the platform was away.
        Assert.Equal(["t1 1"], Counted(platform));
        await LeavesNothingAsync(platform, "down");
    }

    private static IEnumerable<string> Ids(int count) => Enumerable.Range(1, count).Select(n => $"t{n.ToString("D3", CultureInfo.InvariantCulture)}");

    private static Task CreateCountedAsync(Platform platform, string function) => platform.Client.CreateEchoAsync(
        function, environment: [("COUNT_FILE", CountFile)], change: definition =>
        {
            definition["cpu"] = 0.5;
            definition["idleTimeout"] = 600;
        });

    /// <summary>What the containers counted: one line for each start of a run.</summary>
    private static List<string> Counted(Platform platform) => [.. platform.InstanceFolders()
        .Select(folder => Path.Combine(folder, "box", "count"))
        .Where(File.Exists)
        .SelectMany(File.ReadAllLines)
        .Order(StringComparer.Ordinal)];

    private static async Task LeavesNothingAsync(Platform platform, string function)
    {
        await platform.Client.DeleteAsync(function);
        await Eventually.ComesAsync("the end of all containers", TimeSpan.FromSeconds(60), platform.ContainersAsync, containers => containers.Length == 0);
        await Eventually.ComesAsync("empty spool folders", TimeSpan.FromSeconds(60), () => Task.FromResult(platform.InstanceFolders().Length), count => count == 0);
    }
}
