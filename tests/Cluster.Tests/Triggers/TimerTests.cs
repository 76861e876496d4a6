using System.Text;
using System.Text.Json;
using GpuTasks.Functions;
using GpuTasks.Hosting;
using GpuTasks.Storage;
using GpuTasks.Tasks;
using GpuTasks.Triggers;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Orleans.TestingHost;

namespace GpuTasks.Tests.Triggers;

/// <summary>Timers on real grains and a real store, over two silos.</summary>
public sealed class TimerTests : IAsyncLifetime
{
    private const string Key = "acct/timed";
    private static readonly TimeSpan Deadline = TimeSpan.FromSeconds(60);
    private readonly string folder = Directory.CreateTempSubdirectory("gputasks-timers-").FullName;
    private InProcessTestCluster cluster = null!;

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    private IFunctionGrain Function => cluster.Client.GetGrain<IFunctionGrain>(Key);

    private ITriggersGrain Triggers => cluster.Client.GetGrain<ITriggersGrain>(Key);

    public ValueTask InitializeAsync() => StartAsync();

    public async ValueTask DisposeAsync()
    {
        await cluster.DisposeAsync();
        Directory.Delete(folder, recursive: true);
    }

    [Fact]
    public async Task A_timer_fires_once_a_time_makes_up_for_one_missed_firing_and_goes_with_its_function()
    {
        await Function.Create(new FunctionSpec { Name = "timed", Container = new ContainerSpec { Image = "i" } }, Cancel);
        Assert.Equal(FunctionChange.Done, await Function.SetAsyncConfig("LATEST", new AsyncInvokeConfig { TaskMode = true }, (await Function.Get(Cancel))!.Revision, Cancel));
        var id = (await Function.Get(Cancel))!.FunctionId;
        var timer = new TimerSpec { Expression = "@every 1s", Payload = "hello" };
        Assert.Equal(TriggerChange.Done, (await Triggers.Create(id, new TriggerSpec { Name = "tick", Config = "{}", Timer = timer }, Cancel)).Change);
        Assert.Equal(TriggerChange.BadSchedule, (await Triggers.Create(id, new TriggerSpec { Name = "bad", Config = "{}", Timer = timer with { Expression = "x" } }, Cancel)).Change);
        var tasks = await UntilAsync(TasksAsync, found => found.Count >= 3);
        var body = JsonDocument.Parse(tasks[^1].Payload!).RootElement;
        Assert.Equal(("tick", "hello"), (body.GetProperty("triggerName").GetString(), body.GetProperty("payload").GetString()));
        Assert.Equal(tasks.Count, tasks.Select(task => JsonDocument.Parse(task.Payload!).RootElement.GetProperty("triggerTime").GetString()).Distinct().Count());

        // What brings the grain back on another silo.
        var reminders = await cluster.Silos[0].ServiceProvider.GetRequiredService<IReminderTable>().ReadRows(Triggers.GetGrainId());
        Assert.Single(reminders.Reminders);

        await cluster.StopAllSilosAsync();
        await cluster.DisposeAsync();
        var before = DateTimeOffset.UtcNow;
        await Task.Delay(TimeSpan.FromSeconds(4), Cancel);
        await StartAsync();
        var status = await UntilAsync(async () => (await Triggers.Get(id, "tick", Cancel))!.Timer!, now => now.CaughtUp > 0);
        Assert.InRange(status.Skipped, 2, 1_000);
        var caughtUp = Assert.Single(
            await UntilAsync(TasksAsync, found => found.Exists(task => task.EnqueuedAt > before)),
            task => Encoding.UTF8.GetString(task.Payload!).Contains("\"caughtUp\":true", StringComparison.Ordinal));
        Assert.True(caughtUp.EnqueuedAt > before.AddSeconds(3));

        await Function.Delete(Cancel);
        await UntilAsync(async () => (await Triggers.List(id, Cancel)).Count, count => count == 0);
    }

    private static async Task<T> UntilAsync<T>(Func<Task<T>> read, Func<T, bool> enough)
    {
        for (var limit = DateTime.UtcNow + Deadline; ;)
        {
            var value = await read();
            if (enough(value))
            {
                return value;
            }

            Assert.True(DateTime.UtcNow < limit, $"It is still {value}.");
            await Task.Delay(100, Cancel);
        }
    }

    private async Task<List<TaskSnapshot>> TasksAsync() => [.. (await cluster.Client.GetGrain<ITaskQueryGrain>("acct").List(
        new TaskQuery { Function = "timed", Limit = 25, IncludePayload = true }, Cancel)).Tasks];

    private async ValueTask StartAsync()
    {
        var builder = new InProcessTestClusterBuilder(2);
        builder.Options.ServiceId = "timers";
        builder.ConfigureSilo((_, silo) =>
        {
            silo.AddGpuTasksStore(new StoreOptions { Path = Path.Combine(folder, "store.db") });
            silo.AddGpuTasksGrains(new ConfigurationBuilder().Build());
        });
        cluster = builder.Build();
        await cluster.DeployAsync();
    }
}
