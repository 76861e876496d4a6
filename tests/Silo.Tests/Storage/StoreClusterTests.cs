using System.Net;
using System.Net.Sockets;
using GpuTasks.Storage;
using GpuTasks.Store;
using GpuTasks.Tasks;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Orleans.Configuration;
using Orleans.Storage;

namespace GpuTasks.Tests.Storage;

public sealed class StoreClusterOnSqliteTests(SqliteStore store) : StoreClusterTests(store), IClassFixture<SqliteStore>;

public sealed class StoreClusterOnPostgreSqlTests(PostgreSqlStore store) : StoreClusterTests(store), IClassFixture<PostgreSqlStore>;

/// <summary>What the Orleans providers for reminders and membership do with our tables and texts.</summary>
public abstract class StoreClusterTests
{
    private readonly TestStore store;

    protected StoreClusterTests(TestStore store)
    {
        Assert.SkipWhen(store.Missing is not null, store.Missing ?? "");
        this.store = store;
    }

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    [Fact]
    public async Task Reminders_are_kept_changed_and_removed()
    {
        var table = store.Services.GetRequiredService<IReminderTable>();
        var grain = GrainId.Create("sweeper", $"s-{Guid.NewGuid():N}");
        var start = new DateTime(2026, 3, 1, 12, 0, 0, 123, DateTimeKind.Utc);
        var first = await table.UpsertRow(new ReminderEntry { GrainId = grain, ReminderName = "wake", StartAt = start, Period = TimeSpan.FromMinutes(1) });
        var second = await table.UpsertRow(new ReminderEntry { GrainId = grain, ReminderName = "wake", StartAt = start.AddHours(1), Period = TimeSpan.FromMinutes(2) });
        await table.UpsertRow(new ReminderEntry { GrainId = grain, ReminderName = "other", StartAt = start, Period = TimeSpan.FromDays(1) });
        Assert.NotEqual(first, second);

        var row = await table.ReadRow(grain, "wake");
        Assert.NotNull(row);
        Assert.Equal((grain, start.AddHours(1), TimeSpan.FromMinutes(2), second), (row.GrainId, row.StartAt.ToUniversalTime(), row.Period, row.ETag));
        Assert.Equal(2, (await table.ReadRows(grain)).Reminders.Count);
        Assert.Null(await table.ReadRow(grain, "none"));

        Assert.False(await table.RemoveRow(grain, "wake", first!));
        Assert.True(await table.RemoveRow(grain, "wake", second!));
        Assert.False(await table.RemoveRow(grain, "wake", second!));
        Assert.Equal("other", Assert.Single((await table.ReadRows(grain)).Reminders).ReminderName);
    }

    [Fact]
    public async Task Reminders_are_found_by_their_place_on_the_ring()
    {
        var table = store.Services.GetRequiredService<IReminderTable>();
        var grains = Enumerable.Range(0, 40).Select(i => GrainId.Create("ring", $"g{i}")).ToArray();
        foreach (var grain in grains)
        {
            await table.UpsertRow(new ReminderEntry { GrainId = grain, ReminderName = "r", StartAt = DateTime.UtcNow, Period = TimeSpan.FromMinutes(1) });
        }

        foreach (var (begin, end) in new (uint, uint)[] { (0x2000_0000, 0xa000_0000), (0xa000_0000, 0x2000_0000), (0x9000_0000, 0xf000_0000), (0, 0) })
        {
            var expected = grains.Where(g => begin < end ? g.GetUniformHashCode() > begin && g.GetUniformHashCode() <= end : g.GetUniformHashCode() > begin || g.GetUniformHashCode() <= end);
            var found = (await table.ReadRows(begin, end)).Reminders.Where(r => r.ReminderName == "r").Select(r => r.GrainId);
            Assert.Equal(expected.Order(), found.Order());
        }
    }

    [Fact]
    public async Task Silos_find_each_other_and_clients_find_them_through_the_store()
    {
        var (a, portOfA) = await StartSiloAsync("a");
        using var stopA = a;
        var (b, _) = await StartSiloAsync("b");
        using var stopB = b;
        var members = a.Services.GetRequiredService<IMembershipTable>();
        await UntilAsync(async () => (await members.ReadAllAsync(Cancel)).Members.Count(m => m.Item1.Status == SiloStatus.Active) == 2);
        var table = await members.ReadAllAsync(Cancel);
        Assert.Equal(["a", "b"], table.Members.Select(m => m.Item1.SiloName).Order());
        var second = table.Members.Single(m => m.Item1.SiloName == "b").Item1;
        Assert.Equal("b", Assert.Single((await members.ReadRowAsync(second.SiloAddress, Cancel)).Members).Item1.SiloName);

        // Only who knows the newest version may change the table; the silos' own changes stay whole.
        var stale = new TableVersion(table.Version.Version, (table.Version.Version - 1).ToString(System.Globalization.CultureInfo.InvariantCulture));
        Assert.False(await members.UpdateRowAsync(second, "", stale, Cancel));
        Assert.False(await members.InsertRowAsync(second, table.Version.Next(), Cancel));
        var stranger = new MembershipEntry
        {
            SiloAddress = SiloAddress.New(new IPEndPoint(IPAddress.Loopback, 1), 1),
            SiloName = "c",
            HostName = "c",
            Status = SiloStatus.Dead,
            StartTime = DateTime.UtcNow,
            IAmAliveTime = DateTime.UtcNow.AddDays(-9),
        };
        Assert.False(await members.UpdateRowAsync(stranger, "", table.Version.Next(), Cancel));
        Assert.True(await members.InsertRowAsync(stranger, table.Version.Next(), Cancel));
        Assert.Equal(table.Version.Version + 1, (await members.ReadAllAsync(Cancel)).Version.Version);
        await members.CleanupDefunctSiloEntriesAsync(DateTimeOffset.UtcNow.AddDays(-1), Cancel);
        Assert.DoesNotContain((await members.ReadAllAsync(Cancel)).Members, m => m.Item1.SiloName == "c");

        using var client = new HostBuilder().ConfigureLogging(l => l.ClearProviders()).UseOrleansClient(c => c
            .Configure<ClusterOptions>(o => (o.ClusterId, o.ServiceId) = ("cluster-test", Service))
            .UseAdoNetClustering(o => (o.Invariant, o.ConnectionString) = (store.Database.Invariant, ConnectionString))).Build();
        await client.StartAsync(Cancel);
        var management = client.Services.GetRequiredService<IClusterClient>().GetGrain<IManagementGrain>(0);
        Assert.Equal(2, (await management.GetHosts(onlyActive: true)).Count);
        await client.StopAsync(Cancel);

        await b.StopAsync(Cancel);
        await UntilAsync(async () => (await members.ReadAllAsync(Cancel)).Members.Single(m => m.Item1.SiloName == "b").Item1.Status == SiloStatus.Dead);
        await a.StopAsync(Cancel);
        Assert.NotEqual(0, portOfA);
    }

    [Fact]
    public async Task A_silo_that_stops_has_committed_every_write_that_it_answered()
    {
        var account = Samples.NewAccount();
        var (silo, _) = await StartSiloAsync("c", cluster: $"stop-{Guid.NewGuid():N}");
        using var host = silo;
        var storage = silo.Services.GetRequiredKeyedService<IGrainStorage>(StoreNames.Provider);
        var writes = Enumerable.Range(0, 500).Select(i =>
        {
            var key = new TaskKey(account, "f", $"t{i}");
            return storage.WriteStateAsync(StoreNames.Task, GrainId.Create("task", key.ToString()), new Stored<TaskState>(Samples.Waiting(key)));
        }).ToArray();
        await silo.StopAsync(Cancel);
        var written = 0;
        foreach (var write in writes)
        {
            try
            {
                await write;
                written++;
            }
            catch (StoreUnavailableException)
            {
                // Refused whole, which is as good as an answer.
            }
        }

        Assert.InRange(written, 1, 500);
        Assert.Equal(written, (await store.Tasks.CountAsync(account, "f", Cancel)).GetValueOrDefault(GpuTaskStatus.Enqueued));
    }

    private string Service => store.Services.GetRequiredService<Microsoft.Extensions.Options.IOptions<ClusterOptions>>().Value.ServiceId;

    private string ConnectionString => store.Options.Provider == StoreProvider.PostgreSql ? store.Options.ConnectionString : $"Data Source={store.Options.Path}";

    private async Task<(IHost Host, int Port)> StartSiloAsync(string name, string cluster = "cluster-test")
    {
        var (silo, gateway) = FreePorts();
        var options = new StoreOptions
        {
            Provider = store.Options.Provider,
            Path = store.Options.Path,
            ConnectionString = store.Options.ConnectionString,
            UseStoreClustering = true,
        };
        var host = new HostBuilder().ConfigureLogging(l => l.ClearProviders()).UseOrleans(s => s
            .Configure<ClusterOptions>(o => (o.ClusterId, o.ServiceId) = (cluster, Service))
            .Configure<SiloOptions>(o => o.SiloName = name)
            .ConfigureEndpoints(IPAddress.Loopback, silo, gateway)
            .AddGpuTasksStore(options)).Build();
        await host.StartAsync(Cancel);
        return (host, silo);
    }

    private static (int Silo, int Gateway) FreePorts()
    {
        using var a = new TcpListener(IPAddress.Loopback, 0);
        using var b = new TcpListener(IPAddress.Loopback, 0);
        a.Start();
        b.Start();
        return (((IPEndPoint)a.LocalEndpoint).Port, ((IPEndPoint)b.LocalEndpoint).Port);
    }

    private static async Task UntilAsync(Func<Task<bool>> condition)
    {
        var deadline = DateTime.UtcNow.AddSeconds(30);
        while (!await condition())
        {
            Assert.True(DateTime.UtcNow < deadline, "It did not come about in 30 s.");
            await Task.Delay(50, Cancel);
        }
    }
}
