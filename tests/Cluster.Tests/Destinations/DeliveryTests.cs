using System.Text;
using System.Text.Json;
using GpuTasks.Destinations;
using GpuTasks.Functions;
using GpuTasks.Hosting;
using GpuTasks.Storage;
using GpuTasks.Tasks;
using Microsoft.Extensions.Configuration;
using Orleans.TestingHost;

namespace GpuTasks.Tests.Destinations;

/// <summary>
/// Deliveries by real grains on a real store to real receivers. Tasks end without a node here: their function is said to be gone,
/// so they are Invalid and tell <c>onFailure</c>.
/// </summary>
public sealed class DeliveryTests : IAsyncLifetime
{
    private static readonly TimeSpan Deadline = TimeSpan.FromSeconds(60);
    private readonly string folder = Directory.CreateTempSubdirectory("gputasks-deliveries-").FullName;
    private readonly string account = Guid.NewGuid().ToString("N")[..8];
    private InProcessTestCluster cluster = null!;
    private Receiver receiver = null!;

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    private IDestinationsGrain Destinations => cluster.Client.GetGrain<IDestinationsGrain>(account);

    private IWebhooksGrain Webhooks => cluster.Client.GetGrain<IWebhooksGrain>(account);

    public async ValueTask InitializeAsync()
    {
        receiver = await Receiver.StartAsync();
        await StartAsync();
    }

    public async ValueTask DisposeAsync()
    {
        await cluster.DisposeAsync();
        await receiver.DisposeAsync();
        Directory.Delete(folder, recursive: true);
    }

    [Fact]
    public async Task A_webhook_hears_of_the_end_signed_by_both_secrets_during_a_rotation()
    {
        var first = WebhookSignature.NewSecret();
        var second = WebhookSignature.NewSecret();
        await Webhooks.Rotate(first, TimeSpan.Zero, Cancel);
        await EndAsync("a", receiver.Url("/a"));
        await UntilToldAsync("a");
        var told = Assert.Single(receiver.At("/a"));
        Assert.True(told.IsSignedBy(first) && !told.IsSignedBy(second));
        using var body = JsonDocument.Parse(told.Body);
        var context = body.RootElement.GetProperty("requestContext");
        Assert.Equal(("Invalid", $"acs:fc:local-1:{account}:functions/f", "a"), (context.GetProperty("condition").GetString(), context.GetProperty("functionArn").GetString(), context.GetProperty("taskId").GetString()));
        Assert.Equal("payload of a", body.RootElement.GetProperty("requestPayload").GetString());
        Assert.Equal(200, body.RootElement.GetProperty("responseContext").GetProperty("statusCode").GetInt32());

        Assert.Equal(2, (await Webhooks.Rotate(second, TimeSpan.FromHours(1), Cancel)).Count);
        await EndAsync("b", receiver.Url("/b"));
        await UntilToldAsync("b");
        var both = Assert.Single(receiver.At("/b"));
        Assert.True(both.IsSignedBy(first) && both.IsSignedBy(second));
        Assert.NotEqual(told.Id, both.Id);
    }

    [Fact]
    public async Task A_receiver_that_was_down_is_told_under_the_same_id_also_after_a_restart_of_everything()
    {
        receiver.Answer("/down", 503);
        await EndAsync("down", receiver.Url("/down"));
        await UntilAsync(() => Task.FromResult(receiver.At("/down").Count), count => count >= 2);
        var seen = await UntilAsync(() => GetAsync("down"), task => task.DestinationStatus == "Retrying");
        Assert.Contains("503", seen.Delivery!.Fault, StringComparison.Ordinal);
        Assert.Equal(receiver.At("/down")[0].Id, seen.Delivery.DeliveryId);
        await cluster.StopAllSilosAsync();
        await cluster.DisposeAsync();
        receiver.Answer("/down", 200);
        var before = receiver.At("/down").Count;
        await StartAsync();
        await UntilToldAsync("down");
        Assert.True(receiver.At("/down").Count > before);
        Assert.Single(receiver.At("/down").Select(delivery => (delivery.Id, delivery.Body)).Distinct());
        Assert.Null((await GetAsync("down")).Delivery);
    }

    [Fact]
    public async Task What_a_receiver_wants_no_more_is_a_dead_letter_that_can_be_replayed_or_deleted()
    {
        receiver.Answer("/gone", 410);
        await EndAsync("one", receiver.Url("/gone"));
        await EndAsync("two", receiver.Url("/gone"), recorded: false);
        var dead = await UntilAsync(DeadAsync, found => found.Count == 2);
        Assert.All(dead, one => Assert.Equal((receiver.Url("/gone"), 1, GpuTaskStatus.Invalid), (one.Target, one.Attempts, one.Status)));
        Assert.Equal("Failed", (await GetAsync("one")).DestinationStatus);
        var whole = (await TaskOf("two").GetDeadLetter(Cancel))!;
        Assert.Equal(receiver.At("/gone").Single(delivery => delivery.Id == whole.DeliveryId).Body, Encoding.UTF8.GetString(whole.Message!));
        Assert.InRange(whole.KeptUntil - whole.At, TimeSpan.FromDays(7), TimeSpan.FromDays(7));

        // It is still gone: it comes back into the list, and the same call does not take it up again.
        Assert.Equal(2, (await Destinations.Replay(null, DateTimeOffset.UtcNow, Cancel)).Replayed);
        await UntilAsync(DeadAsync, found => found.Count == 2 && found.All(one => one.Attempts == 2));
        receiver.Answer("/gone", 204);
        Assert.True(await TaskOf("one").Redeliver(Cancel));
        await UntilToldAsync("one");
        Assert.False(await TaskOf("one").Redeliver(Cancel));
        Assert.Equal(3, receiver.At("/gone").Count(delivery => delivery.Id == dead.Single(one => one.Key.TaskId == "one").DeliveryId));
        Assert.True(await TaskOf("two").DeleteDeadLetter(Cancel));
        Assert.False(await TaskOf("two").DeleteDeadLetter(Cancel));
        Assert.Empty(await DeadAsync());
        Assert.Empty((await cluster.Client.GetGrain<IDestinationsGrain>("another").ListDeadLetters(null, null, 10, Cancel)).DeadLetters);
    }

    [Fact]
    public async Task A_function_that_is_missing_makes_a_dead_letter_and_is_called_once_by_a_replay()
    {
        await EndAsync("orphan", $"acs:fc:local-1:{account}:functions/sink");
        await EndAsync("foreign", "acs:fc:local-1:someone:functions/sink");
        await UntilAsync(DeadAsync, found => found.Count == 2);
        var sink = cluster.Client.GetGrain<IFunctionGrain>($"{account}/sink");
        await sink.Create(new FunctionSpec { Name = "sink", Container = new ContainerSpec { Image = "any:1" } }, Cancel);
        Assert.Equal(FunctionChange.Done, await sink.SetAsyncConfig("LATEST", new AsyncInvokeConfig { TaskMode = true }, (await sink.Get(Cancel))!.Revision, Cancel));
        Assert.Equal(2, (await Destinations.Replay("f", DateTimeOffset.UtcNow, Cancel)).Replayed);
        await UntilToldAsync("orphan");
        var told = Assert.Single((await cluster.Client.GetGrain<ITaskQueryGrain>(account).List(new TaskQuery { Function = "sink", IncludePayload = true }, Cancel)).Tasks);
        Assert.Contains("payload of orphan", Encoding.UTF8.GetString(told.Payload!), StringComparison.Ordinal);
        Assert.Equal("foreign", Assert.Single(await UntilAsync(DeadAsync, found => found.Count == 1)).Key.TaskId);
        Assert.Empty((await cluster.Client.GetGrain<ITaskQueryGrain>("someone").List(new TaskQuery { Function = "sink" }, Cancel)).Tasks);
    }

    [Fact]
    public async Task A_function_is_called_by_its_qualifier_and_one_that_is_missing_makes_a_dead_letter()
    {
        var sink = cluster.Client.GetGrain<IFunctionGrain>($"{account}/sink");
        await sink.Create(new FunctionSpec { Name = "sink", Container = new ContainerSpec { Image = "any:1" } }, Cancel);
        var version = (await sink.PublishVersion("first", Cancel)).Version!.VersionId;
        Assert.Equal(FunctionChange.Done, await sink.SetAsyncConfig(version, new AsyncInvokeConfig { TaskMode = true }, (await sink.Get(Cancel))!.Revision, Cancel));
        await EndAsync("versioned", $"acs:fc:local-1::functions/sink/{version}");
        await EndAsync("nowhere", "acs:fc:local-1::functions/sink/nobody");
        await UntilToldAsync("versioned");
        var told = Assert.Single((await cluster.Client.GetGrain<ITaskQueryGrain>(account).List(new TaskQuery { Function = "sink" }, Cancel)).Tasks);
        Assert.Equal((version, version), (told.Qualifier, told.Version));
        var dead = Assert.Single(await UntilAsync(DeadAsync, found => found.Count == 1));
        Assert.Equal("nowhere", dead.Key.TaskId);
        Assert.Contains("'nobody'", dead.Fault, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_topic_keeps_each_message_once_in_order()
    {
        await EndAsync("t1", "topic:ends", payload: """{"n":"é"}""");
        await UntilToldAsync("t1");
        await EndAsync("t2", $"acs:mns:local-1:{account}:/topics/ends/messages");
        await UntilToldAsync("t2");
        Assert.Equal([new TopicSummary("ends", 1, 2)], await Destinations.ListTopics(null, 10, Cancel));
        var messages = await Destinations.ReadTopic("ends", 0, 10, Cancel);
        Assert.Contains("\\\"é\\\"", Encoding.UTF8.GetString(messages[0].Body), StringComparison.Ordinal);
        Assert.Equal(["""{"n":"é"}""", "payload of t2"], messages.Select(message => JsonDocument.Parse(message.Body).RootElement.GetProperty("requestPayload").GetString()));
        Assert.Empty(await cluster.Client.GetGrain<IDestinationsGrain>("another").ReadTopic("ends", 0, 10, Cancel));
    }

    [Fact]
    public async Task A_receiver_that_never_answers_holds_up_nobody_and_what_waits_for_it_has_no_activation()
    {
        using var over = new CancellationTokenSource();
        receiver.Answers["/hangs"] = http => Task.Delay(Timeout.Infinite, over.Token).ContinueWith(_ => { }, TaskScheduler.Default);
        await Task.WhenAll(Enumerable.Range(0, 200).Select(i => EndAsync($"h{i}", receiver.Url("/hangs"))));

        // The address is another, so it is another target, though the same process.
        await EndAsync("healthy", receiver.Url("/healthy").Replace("127.0.0.1", "127.0.0.2", StringComparison.Ordinal));
        await UntilToldAsync("healthy");
        // Two silos with eight places each, a few that follow before the target is closed, then one at a time.
        Assert.InRange(receiver.At("/hangs").Count, 0, 60);
        var management = cluster.Client.GetGrain<IManagementGrain>(0);
        await UntilAsync(async () => (await management.GetActiveGrains(GrainType.Create("task"))).Count, count => count < 20);
        Assert.NotNull((await GetAsync("h150")).Delivery);
        await over.CancelAsync();
    }

    [Fact]
    public async Task Rules_of_the_operator_are_those_of_the_silo()
    {
        Assert.Null(await Webhooks.Refuse(receiver.Url("/x"), Cancel));
        Assert.NotNull(await Webhooks.Refuse("https://10.0.0.1/", Cancel));
        await EndAsync("private", "https://10.0.0.1/");
        Assert.Contains("10.0.0.1", Assert.Single(await UntilAsync(DeadAsync, found => found.Count == 1)).Fault, StringComparison.Ordinal);
    }

    private async Task EndAsync(string id, string target, bool recorded = true, string? payload = null)
    {
        var task = TaskOf(id);
        Assert.Equal(SubmitOutcome.Accepted, await task.Submit(
            new TaskSubmission { RequestId = Guid.NewGuid().ToString(), Payload = Encoding.UTF8.GetBytes(payload ?? $"payload of {id}"), OnSuccess = "topic:wrong", OnFailure = target, Recorded = recorded }, Cancel));
        await task.FunctionDeleted(Cancel);
    }

    private ITaskGrain TaskOf(string id) => cluster.Client.GetGrain<ITaskGrain>(new TaskKey(account, "f", id).ToString());

    private async Task<TaskSnapshot> GetAsync(string id) => (await TaskOf(id).Get(includeData: false, Cancel))!;

    private Task<TaskSnapshot> UntilToldAsync(string id) => UntilAsync(() => GetAsync(id), task => task.DestinationStatus == "Succeeded");

    private async Task<IReadOnlyList<DeadLetterView>> DeadAsync() => (await Destinations.ListDeadLetters("f", null, 100, Cancel)).DeadLetters;

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
            await Task.Delay(50, Cancel);
        }
    }

    private async Task StartAsync()
    {
        var configuration = new ConfigurationBuilder().AddInMemoryCollection(new Dictionary<string, string?>
        {
            ["GpuTasks:Webhooks:AllowHttp"] = "true",
            ["GpuTasks:Webhooks:AllowedRanges:0"] = "127.0.0.0/8",
            ["GpuTasks:Webhooks:TimeoutSeconds"] = "2",
        }).Build();
        var builder = new InProcessTestClusterBuilder(2);
        builder.Options.ServiceId = "deliveries";
        builder.ConfigureSilo((_, silo) =>
        {
            silo.AddGpuTasksStore(new StoreOptions { Path = Path.Combine(folder, "store.db") });
            silo.AddGpuTasksGrains(configuration);
        });
        cluster = builder.Build();
        await cluster.DeployAsync();
    }
}
