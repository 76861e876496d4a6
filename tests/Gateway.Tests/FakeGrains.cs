using System.Collections.Concurrent;
using System.Globalization;
using GpuTasks.Destinations;
using GpuTasks.Dispatch;
using GpuTasks.Functions;
using GpuTasks.Nodes;
using GpuTasks.Quota;
using GpuTasks.Security;
using GpuTasks.Tasks;
using GpuTasks.Triggers;

namespace GpuTasks.Gateway.Tests;

/// <summary>A platform in memory: what the gateway calls, without a cluster. Keys decide who sees what, as in the real one.</summary>
internal sealed class FakePlatform
{
    /// <summary>Submits are never answered.</summary>
    public bool StoreStandsStill { get; set; }

    public FakeFunctionTable Functions { get; } = new();

    /// <summary>What dispatchers say of their queue and instances; null for one that has an instance.</summary>
    public DispatcherStatus? Queue { get; set; }

    public ConcurrentDictionary<string, TaskSnapshot> Tasks { get; } = new();

    public ConcurrentDictionary<string, TaskSubmission> Submissions { get; } = new();

    public ConcurrentQueue<string> Calls { get; } = new();

    /// <summary>Answers a synchronous run, or null while it goes on.</summary>
    public Func<RunOrder, RunReport?> Run { get; set; } = order => new RunReport
    {
        RunId = order.RunId,
        InstanceId = order.InstanceId,
        Node = "node-1",
        Outcome = RunOutcome.Succeeded,
        StatusCode = 200,
        Response = order.Payload,
        ContentType = "text/plain",
        Duration = TimeSpan.FromMilliseconds(12),
        LogTail = "tail"u8.ToArray(),
        MaxMemoryMiB = 49,
    };

    /// <summary>Answers a request for a slot.</summary>
    public Func<string, SlotAnswer> Acquire { get; set; } = _ => new SlotAnswer(
        new SlotAssignment { SlotId = "s", Node = "node-1", InstanceId = "i-1", RunLimit = TimeSpan.FromSeconds(3), Revision = 1 }, null);

    /// <summary>Answers a run order before it is kept.</summary>
    public Func<RunOrder, StartRunOutcome> Start { get; set; } = _ => StartRunOutcome.Started;

    public ConcurrentDictionary<string, RunOrder> Runs { get; } = new();

    /// <summary>Answers the reader of a streamed answer; null tells it the run's report at once.</summary>
    public Func<RunOrder, long, CancellationToken, Task<AnswerPart>>? Answer { get; set; }

    /// <summary>What came of bodies that follow their orders.</summary>
    public ConcurrentDictionary<string, MemoryStream> Bodies { get; } = new();

    public Dictionary<(string Node, string Task, int Attempt), byte[]> Logs { get; } = [];

    public List<NodeStatus> Nodes { get; } = [];

    /// <summary>Why tasks wait; null while the queue does not answer.</summary>
    public WaitView? Wait { get; set; }

    public ConcurrentDictionary<string, QuotaStatus> Quotas { get; } = new();

    public CapacityView Capacity { get; set; } = new();

    /// <summary>Whether tasks move on: one whose event says sleep runs until it is stopped, every other succeeds at its first reading.</summary>
    public bool Executes { get; set; }

    /// <summary>Whether the store has no room for a task of a batch.</summary>
    public Func<string, bool> Full { get; set; } = _ => false;

    /// <summary>Thrown by every call while set.</summary>
    public Exception? Fault { get; set; }

    /// <summary>Runs before every change of a function, to bring one in between.</summary>
    public Action? BeforeChange { get; set; }

    public AccountsState Accounts { get; set; } = new();

    public ConcurrentDictionary<string, TriggersState> Triggers { get; } = new();

    public ConcurrentDictionary<string, NonceWindow> Nonces { get; } = new();

    public ConcurrentQueue<AuditEntry> Audit { get; } = new();

    /// <summary>Secrets of webhooks by account, the newest first.</summary>
    public ConcurrentDictionary<string, List<string>> WebhookSecrets { get; } = new();

    /// <summary>Dead letters by key of their task.</summary>
    public ConcurrentDictionary<string, DeadLetterView> DeadLetters { get; } = new();

    /// <summary>Messages by account and topic.</summary>
    public ConcurrentDictionary<(string Account, string Topic), List<TopicMessage>> Topics { get; } = new();

    public void Called(string what)
    {
        Calls.Enqueue(what);
        if (Fault is { } fault)
        {
            throw fault;
        }
    }

    public void Put(string account, string function, TaskSnapshot task) => Tasks[$"{account}/{function}/{task.Key.TaskId}"] = task;
}

/// <summary>Rows of functions; a test may put a definition in as somebody else would.</summary>
internal sealed class FakeFunctionTable : IEnumerable<FunctionSnapshot>
{
    public ConcurrentDictionary<string, FunctionState> Rows { get; } = new();

    public FunctionSnapshot this[string key]
    {
        get => Rows[key].Function!;
        set => Rows[key] = Rows.GetValueOrDefault(key, new FunctionState()) with { Function = value };
    }

    public IEnumerator<FunctionSnapshot> GetEnumerator() => Rows.Values.Select(row => row.Function!).GetEnumerator();

    System.Collections.IEnumerator System.Collections.IEnumerable.GetEnumerator() => GetEnumerator();
}

internal sealed class FakeGrainFactory(FakePlatform platform) : IGrainFactory
{
    public TGrainInterface GetGrain<TGrainInterface>(string primaryKey, string? grainClassNamePrefix = null)
        where TGrainInterface : IGrainWithStringKey => (TGrainInterface)Make(typeof(TGrainInterface), primaryKey);

    public TGrainInterface GetGrain<TGrainInterface>(Guid primaryKey, string? grainClassNamePrefix = null) where TGrainInterface : IGrainWithGuidKey => throw new NotSupportedException();

    public TGrainInterface GetGrain<TGrainInterface>(long primaryKey, string? grainClassNamePrefix = null) where TGrainInterface : IGrainWithIntegerKey => throw new NotSupportedException();

    public TGrainInterface GetGrain<TGrainInterface>(Guid primaryKey, string keyExtension, string? grainClassNamePrefix = null) where TGrainInterface : IGrainWithGuidCompoundKey => throw new NotSupportedException();

    public TGrainInterface GetGrain<TGrainInterface>(long primaryKey, string keyExtension, string? grainClassNamePrefix = null) where TGrainInterface : IGrainWithIntegerCompoundKey => throw new NotSupportedException();

    public TGrainObserverInterface CreateObjectReference<TGrainObserverInterface>(IGrainObserver obj) where TGrainObserverInterface : IGrainObserver => throw new NotSupportedException();

    public void DeleteObjectReference<TGrainObserverInterface>(IGrainObserver obj) where TGrainObserverInterface : IGrainObserver => throw new NotSupportedException();

    public IGrain GetGrain(Type grainInterfaceType, Guid grainPrimaryKey) => throw new NotSupportedException();

    public IGrain GetGrain(Type grainInterfaceType, long grainPrimaryKey) => throw new NotSupportedException();

    public IGrain GetGrain(Type grainInterfaceType, string grainPrimaryKey) => (IGrain)Make(grainInterfaceType, grainPrimaryKey);

    public IGrain GetGrain(Type grainInterfaceType, Guid grainPrimaryKey, string keyExtension) => throw new NotSupportedException();

    public IGrain GetGrain(Type grainInterfaceType, long grainPrimaryKey, string keyExtension) => throw new NotSupportedException();

    public TGrainInterface GetGrain<TGrainInterface>(GrainId grainId) where TGrainInterface : IAddressable => throw new NotSupportedException();

    public IAddressable GetGrain(GrainId grainId) => throw new NotSupportedException();

    public IAddressable GetGrain(GrainId grainId, GrainInterfaceType interfaceType) => throw new NotSupportedException();

    public IAddressable GetGrain(Type interfaceType, IdSpan grainKey) => throw new NotSupportedException();

    public IAddressable GetGrain(Type interfaceType, IdSpan grainKey, string grainClassNamePrefix) => throw new NotSupportedException();

    private object Make(Type type, string key)
    {
        // What a grain key must never hold, whatever a caller sends.
        Assert.DoesNotContain('\0', key);
        Assert.True(key.Split('/').Length <= 3, key);
        return type == typeof(IFunctionGrain) ? new FakeFunction(platform, key)
            : type == typeof(IFunctionQueryGrain) ? new FakeFunctionQuery(platform, key)
            : type == typeof(ITaskGrain) ? new FakeTask(platform, key)
            : type == typeof(ITaskBatchGrain) ? new FakeTaskBatch(platform, key)
            : type == typeof(ITaskQueryGrain) ? new FakeTaskQuery(platform, key)
            : type == typeof(IDispatcherGrain) ? new FakeDispatcher(platform, key)
            : type == typeof(INodeGrain) ? new FakeNode(platform, key)
            : type == typeof(IAccountsGrain) ? new FakeAccounts(platform)
            : type == typeof(ITriggersGrain) ? new FakeTriggers(platform, key)
            : type == typeof(INonceGrain) ? new FakeNonces(platform, key)
            : type == typeof(IWebhooksGrain) ? new FakeWebhooks(platform, key)
            : type == typeof(IDestinationsGrain) ? new FakeDestinations(platform, key)
            : type == typeof(IAuditGrain) ? new FakeAudit(platform)
            : type == typeof(IRegionQuotaGrain) ? new FakeRegion(platform)
            : throw new NotSupportedException(type.Name);
    }
}

internal sealed class FakeFunction(FakePlatform platform, string key) : IFunctionGrain
{
    private FunctionState Row => platform.Functions.Rows.GetValueOrDefault(key, new FunctionState());

    public Task<FunctionChange> Create(FunctionSpec spec, CancellationToken cancellationToken = default)
    {
        platform.Called($"create {key}");
        return Apply(FunctionCore.Create(Row, key.Split('/')[0], spec, DateTimeOffset.UtcNow));
    }

    public Task<FunctionSnapshot?> Get(CancellationToken cancellationToken = default)
    {
        platform.Called($"get {key}");
        return Task.FromResult(Row.Function);
    }

    public Task<FunctionSnapshot?> GetQualified(string qualifier, string pick, CancellationToken cancellationToken = default)
    {
        platform.Called($"get {key}");
        return Task.FromResult(Qualifiers.Resolve(Row, qualifier, pick));
    }

    public Task<FunctionChange> Update(FunctionSpec spec, int expectedRevision, CancellationToken cancellationToken = default) =>
        Change(row => FunctionCore.Update(row, spec, expectedRevision, DateTimeOffset.UtcNow));

    public Task<FunctionChange> Delete(CancellationToken cancellationToken = default)
    {
        platform.Called($"delete {key}");
        return Task.FromResult(platform.Functions.Rows.TryRemove(key, out _) ? FunctionChange.Done : FunctionChange.NotFound);
    }

    public Task<FunctionChange> SetAsyncConfig(string qualifier, AsyncInvokeConfig? config, int expectedRevision, CancellationToken cancellationToken = default) =>
        Change(row => FunctionCore.SetAsyncConfig(row, qualifier, config, expectedRevision, DateTimeOffset.UtcNow));

    public async Task<PublishAnswer> PublishVersion(string description, CancellationToken cancellationToken = default)
    {
        platform.Called($"change {key}");
        var (next, answer) = FunctionCore.Publish(Row, description, DateTimeOffset.UtcNow);
        await Apply((next, answer.Change));
        return answer;
    }

    public Task<FunctionChange> SetCapacity(FunctionCapacity capacity, int expectedRevision, CancellationToken cancellationToken = default) =>
        Change(row => FunctionCore.SetCapacity(row, capacity, expectedRevision));

    public Task<FunctionChange> DeleteVersion(string version, int expectedRevision, CancellationToken cancellationToken = default) =>
        Change(row => FunctionCore.DeleteVersion(row, version, expectedRevision));

    public Task<FunctionChange> SetAlias(string name, FunctionAlias? alias, int expectedRevision, CancellationToken cancellationToken = default) =>
        Change(row => FunctionCore.SetAlias(row, name, alias, expectedRevision, DateTimeOffset.UtcNow));

    public Task<FunctionChange> SetRestriction(InvocationRestriction restriction, CancellationToken cancellationToken = default) =>
        Change(row => FunctionCore.SetRestriction(row, restriction, DateTimeOffset.UtcNow));

    public Task<FunctionChange> SetResolvedImage(string? version, int specRevision, string image, CancellationToken cancellationToken = default) =>
        Change(row => FunctionCore.SetResolvedImage(row, version, specRevision, image));

    public Task<FunctionChange> SetTags(IReadOnlyDictionary<string, string> tags, int expectedRevision, CancellationToken cancellationToken = default) =>
        Change(row => FunctionCore.SetTags(row, tags, expectedRevision));

    private Task<FunctionChange> Change(Func<FunctionState, (FunctionState Next, FunctionChange Outcome)> change)
    {
        platform.Called($"change {key}");
        platform.BeforeChange?.Invoke();
        return Apply(change(Row));
    }

    private Task<FunctionChange> Apply((FunctionState Next, FunctionChange Outcome) decided)
    {
        if (decided.Outcome is FunctionChange.Done)
        {
            platform.Functions.Rows[key] = decided.Next;
        }

        return Task.FromResult(decided.Outcome);
    }
}

internal sealed class FakeFunctionQuery(FakePlatform platform, string account) : IFunctionQueryGrain
{
    public Task<FunctionPage> List(string prefix, string? after, int limit, CancellationToken cancellationToken = default)
    {
        platform.Called($"functions {account}");
        Assert.InRange(limit, 1, 100);
        var all = platform.Functions
            .Where(function => function.Account == account && function.Spec.Name.StartsWith(prefix, StringComparison.Ordinal)
                && (after is null || string.CompareOrdinal(function.Spec.Name, after) > 0))
            .OrderBy(function => function.Spec.Name, StringComparer.Ordinal)
            .Take(limit + 1).ToList();
        return Task.FromResult(new FunctionPage([.. all.Take(limit)], all.Count > limit ? all[limit - 1].Spec.Name : null));
    }
}

internal sealed class FakeTask(FakePlatform platform, string key) : ITaskGrain
{
    public Task<SubmitOutcome> Submit(TaskSubmission submission, CancellationToken cancellationToken = default)
    {
        platform.Called($"submit {key}");
        if (platform.StoreStandsStill)
        {
            return new TaskCompletionSource<SubmitOutcome>().Task;
        }

        if (!platform.Submissions.TryAdd(key, submission))
        {
            return Task.FromResult(SubmitOutcome.AlreadyExists);
        }

        platform.Tasks[key] = new TaskSnapshot
        {
            Key = TaskKey.Parse(key),
            Status = GpuTaskStatus.Enqueued,
            RequestId = submission.RequestId,
            Qualifier = submission.Qualifier,
            EnqueuedAt = DateTimeOffset.UtcNow,
            Payload = submission.Payload,
            Recorded = submission.Recorded,
            Events = [new TaskEventRecord(1, GpuTaskStatus.Enqueued, DateTimeOffset.UtcNow, "")],
        };
        return Task.FromResult(SubmitOutcome.Accepted);
    }

    public Task<TaskSnapshot?> Get(bool includeData, CancellationToken cancellationToken = default)
    {
        platform.Called($"task {key}");
        var task = platform.Tasks.GetValueOrDefault(key);
        if (platform.Executes && task is { Status: GpuTaskStatus.Enqueued })
        {
            var sleeps = System.Text.Encoding.UTF8.GetString(task.Payload!).Contains("\"sleep\"", StringComparison.Ordinal);
            platform.Tasks[key] = task = sleeps
                ? task with { Status = GpuTaskStatus.Running }
                : task with { Status = GpuTaskStatus.Succeeded, Result = task.Payload, EndedAt = DateTimeOffset.UtcNow };
        }

        return Task.FromResult(includeData || task is null ? task : task with { Payload = null, Result = null });
    }

    public Task<TaskResult?> GetResult(CancellationToken cancellationToken = default)
    {
        platform.Called($"result {key}");
        return Task.FromResult(platform.Tasks.GetValueOrDefault(key)?.Result is { } result ? new TaskResult(result, Truncated: false) : null);
    }

    public Task<StopOutcome> Stop(string reason, CancellationToken cancellationToken = default)
    {
        platform.Called($"stop {key}");
        if (!platform.Tasks.TryGetValue(key, out var task))
        {
            return Task.FromResult(StopOutcome.NotFound);
        }

        if (task.Status.IsFinal())
        {
            return Task.FromResult(StopOutcome.AlreadyFinal);
        }

        platform.Tasks[key] = task with { Status = GpuTaskStatus.Stopped, EndedAt = DateTimeOffset.UtcNow };
        return Task.FromResult(StopOutcome.Accepted);
    }

    public Task<StartOutcome> Start(SlotAssignment slot, CancellationToken cancellationToken = default) => throw new NotSupportedException();

    public Task<bool> TakeUp(int attempt, SlotAssignment slot, CancellationToken cancellationToken = default) => throw new NotSupportedException();

    public Task Report(RunReport report, CancellationToken cancellationToken = default) => throw new NotSupportedException();

    public Task LaunchFailed(string instanceId, LaunchFailure failure, CancellationToken cancellationToken = default) => throw new NotSupportedException();

    public Task FunctionDeleted(CancellationToken cancellationToken = default) => throw new NotSupportedException();

    public Task<DeadLetterView?> GetDeadLetter(CancellationToken cancellationToken = default)
    {
        platform.Called($"dead letter {key}");
        return Task.FromResult(platform.DeadLetters.GetValueOrDefault(key));
    }

    public Task<bool> Redeliver(CancellationToken cancellationToken = default)
    {
        platform.Called($"redeliver {key}");
        return Task.FromResult(platform.DeadLetters.TryRemove(key, out _));
    }

    public Task<bool> DeleteDeadLetter(CancellationToken cancellationToken = default)
    {
        platform.Called($"delete dead letter {key}");
        return Task.FromResult(platform.DeadLetters.TryRemove(key, out _));
    }

    public Task Wake(CancellationToken cancellationToken = default) => throw new NotSupportedException();
}

internal sealed class FakeWebhooks(FakePlatform platform, string account) : IWebhooksGrain
{
    public Task<IReadOnlyList<WebhookSecretView>> GetSecrets(CancellationToken cancellationToken = default)
    {
        platform.Called($"secrets {account}");
        return Task.FromResult<IReadOnlyList<WebhookSecretView>>(
            [.. platform.WebhookSecrets.GetValueOrDefault(account, []).Select((_, i) => new WebhookSecretView(DateTimeOffset.UnixEpoch, i == 0 ? null : DateTimeOffset.UtcNow.AddHours(1)))]);
    }

    public Task<IReadOnlyList<string>> GetSigningSecrets(CancellationToken cancellationToken = default) => throw new NotSupportedException();

    public Task<IReadOnlyList<WebhookSecretView>> Rotate(string secret, TimeSpan overlap, CancellationToken cancellationToken = default)
    {
        platform.Called($"rotate {account} {overlap}");
        platform.WebhookSecrets[account] = [secret, .. platform.WebhookSecrets.GetValueOrDefault(account, []).Take(1)];
        return GetSecrets(cancellationToken);
    }

    public Task<string?> Refuse(string url, CancellationToken cancellationToken = default)
    {
        platform.Called($"refuse {url}");
        return Task.FromResult(url.StartsWith("https://", StringComparison.Ordinal) ? null : "must begin with https://");
    }
}

internal sealed class FakeDestinations(FakePlatform platform, string account) : IDestinationsGrain
{
    private IEnumerable<DeadLetterView> Mine(string? function) => platform.DeadLetters.Values
        .Where(dead => dead.Key.Account == account && (function is null || dead.Key.Function == function)).OrderBy(dead => dead.Key.TaskId, StringComparer.Ordinal);

    public Task<DeadLetterPage> ListDeadLetters(string? function, string? token, int limit, CancellationToken cancellationToken = default)
    {
        platform.Called($"dead letters {account}");
        var from = token is null ? 0 : int.Parse(token, CultureInfo.InvariantCulture);
        var page = Mine(function).Skip(from).Take(limit + 1).ToList();
        return Task.FromResult(new DeadLetterPage(
            [.. page.Take(limit).Select(dead => dead with { Message = null })], page.Count > limit ? (from + limit).ToString(CultureInfo.InvariantCulture) : null));
    }

    public Task<ReplayResult> Replay(string? function, DateTimeOffset before, CancellationToken cancellationToken = default)
    {
        platform.Called($"replay {account}");
        var done = Mine(function).Count(dead => platform.DeadLetters.TryRemove(dead.Key.ToString(), out _));
        return Task.FromResult(new ReplayResult(done, IsMore: false));
    }

    public Task<IReadOnlyList<TopicSummary>> ListTopics(string? after, int limit, CancellationToken cancellationToken = default)
    {
        platform.Called($"topics {account}");
        return Task.FromResult<IReadOnlyList<TopicSummary>>(
        [
            .. platform.Topics.Where(topic => topic.Key.Account == account && string.CompareOrdinal(topic.Key.Topic, after ?? "") > 0)
                .OrderBy(topic => topic.Key.Topic, StringComparer.Ordinal).Take(limit)
                .Select(topic => new TopicSummary(topic.Key.Topic, 1, topic.Value.Count)),
        ]);
    }

    public Task<IReadOnlyList<TopicMessage>> ReadTopic(string topic, long after, int limit, CancellationToken cancellationToken = default)
    {
        platform.Called($"read {account} {topic}");
        return Task.FromResult<IReadOnlyList<TopicMessage>>([.. platform.Topics.GetValueOrDefault((account, topic), []).Where(message => message.Sequence > after).Take(limit)]);
    }

    public Task<bool> DeleteTopic(string topic, CancellationToken cancellationToken = default)
    {
        platform.Called($"delete {account} {topic}");
        return Task.FromResult(platform.Topics.TryRemove((account, topic), out _));
    }
}

internal sealed class FakeTaskBatch(FakePlatform platform, string function) : ITaskBatchGrain
{
    public async Task<IReadOnlyList<BatchOutcome>> Submit(TaskBatch batch, CancellationToken cancellationToken = default)
    {
        platform.Called($"batch {function} {batch.Tasks.Count}");
        var outcomes = new List<BatchOutcome>();
        foreach (var task in batch.Tasks)
        {
            outcomes.Add(platform.Full(task.TaskId) ? BatchOutcome.Unavailable
                : await new FakeTask(platform, $"{function}/{task.TaskId}").Submit(task.Submission, cancellationToken) is SubmitOutcome.Accepted
                    ? BatchOutcome.Accepted : BatchOutcome.AlreadyExists);
        }

        return outcomes;
    }
}

internal sealed class FakeTaskQuery(FakePlatform platform, string account) : ITaskQueryGrain
{
    public Task<TaskPage> List(TaskQuery query, CancellationToken cancellationToken = default)
    {
        platform.Called($"tasks {account} {query.Limit}");
        var offset = query.NextToken is null ? 0 : int.Parse(query.NextToken, CultureInfo.InvariantCulture);
        var tasks = platform.Tasks.Values
            .Where(task => task.Key.Account == account && task.Key.Function == query.Function && task.Recorded
                && (query.Status is null || task.Status == query.Status)
                && (query.Qualifier is null || task.Qualifier == query.Qualifier)
                && (query.Prefix is null || task.Key.TaskId.StartsWith(query.Prefix, StringComparison.Ordinal))
                && (query.StartedFromMs is null || task.EnqueuedAt.ToUnixTimeMilliseconds() >= query.StartedFromMs)
                && (query.StartedToMs is null || task.EnqueuedAt.ToUnixTimeMilliseconds() <= query.StartedToMs))
            .OrderBy(task => task.EnqueuedAt).ToList();
        if (!query.Ascending)
        {
            tasks.Reverse();
        }

        var page = tasks.Skip(offset).Take(query.Limit).ToList();
        return Task.FromResult(new TaskPage(page, offset + page.Count < tasks.Count ? (offset + page.Count).ToString(CultureInfo.InvariantCulture) : null));
    }

    public Task<TaskCounts> Count(string function, CancellationToken cancellationToken = default)
    {
        platform.Called($"counts {account}");
        return Task.FromResult(new TaskCounts(platform.Tasks.Values
            .Where(task => task.Key.Account == account && task.Key.Function == function && task.Recorded)
            .GroupBy(task => task.Status).ToDictionary(group => group.Key, group => group.LongCount())));
    }
}

internal sealed class FakeDispatcher(FakePlatform platform, string key) : IDispatcherGrain
{
    public Task Offer(Ticket ticket, CancellationToken cancellationToken = default) => throw new NotSupportedException();

    public Task OfferMany(IReadOnlyList<Ticket> tickets, CancellationToken cancellationToken = default) => Task.CompletedTask;

    public Task Withdraw(string taskId, CancellationToken cancellationToken = default) => throw new NotSupportedException();

    public Task Release(string instanceId, string runId, CancellationToken cancellationToken = default)
    {
        platform.Called($"release {instanceId} {runId}");
        return Task.CompletedTask;
    }

    public Task InstanceChanged(InstanceStatus status, CancellationToken cancellationToken = default) => throw new NotSupportedException();

    public Task LeasesChanged(CancellationToken cancellationToken = default) => throw new NotSupportedException();

    public Task FunctionChanged(CancellationToken cancellationToken = default) => throw new NotSupportedException();

    public async Task<SlotAnswer> Acquire(string requestId, TimeSpan wait, CancellationToken cancellationToken = default)
    {
        platform.Called($"acquire {requestId}");
        platform.Called($"queue {key}");
        var answer = platform.Acquire(requestId);
        if (answer is { Slot: null, Failure: null })
        {
            await Task.Delay(wait, cancellationToken);
        }

        return answer;
    }

    public Task Abandon(string requestId, CancellationToken cancellationToken = default)
    {
        platform.Called($"abandon {requestId}");
        return Task.CompletedTask;
    }

    public Task<CapacityView> GetCapacity(CancellationToken cancellationToken = default) => GetCapacityOf("LATEST", cancellationToken);

    public Task<CapacityView> GetCapacityOf(string qualifier, CancellationToken cancellationToken = default)
    {
        platform.Called($"capacity {key} {qualifier}");
        return Task.FromResult(platform.Capacity);
    }

    public Task<WaitView> Explain(Ticket ticket, CancellationToken cancellationToken = default)
    {
        platform.Called($"explain {ticket.TaskId} {ticket.Priority}");
        return Task.FromResult(platform.Wait ?? throw new TimeoutException());
    }

    public Task<DispatcherStatus> GetStatus(CancellationToken cancellationToken = default)
    {
        platform.Called($"status {key}");
        return Task.FromResult(platform.Queue ?? new DispatcherStatus
        {
            WindowLength = 7,
            WaitReason = "all cards of type fc.gpu.tesla.1 are taken",
            Instances = [new InstanceStatus { InstanceId = "i-1", Node = "node-1", State = InstanceState.Ready, Revision = platform.Functions.Rows.GetValueOrDefault(key)?.Function?.SpecRevision ?? 0, Runs = ["a.1"], CreatedAt = DateTimeOffset.UnixEpoch }],
            LastFailure = new LaunchFailure(RunOutcome.ImageError, "no such image"),
        });
    }
}

internal sealed class FakeNode(FakePlatform platform, string node) : INodeGrain
{
    public Task<LaunchOutcome> Launch(LaunchOrder order, CancellationToken cancellationToken = default) => throw new NotSupportedException();

    public Task StopInstance(string instanceId, bool force, CancellationToken cancellationToken = default) => throw new NotSupportedException();

    public Task<StartRunOutcome> StartRun(RunOrder order, CancellationToken cancellationToken = default)
    {
        platform.Called($"start {order.RunId}");
        var outcome = platform.Start(order);
        if (outcome == StartRunOutcome.Started)
        {
            platform.Runs[order.RunId] = order;
        }

        return Task.FromResult(outcome);
    }

    public Task<bool> CancelRun(string instanceId, string runId, CancellationToken cancellationToken = default)
    {
        platform.Called($"cancel {runId}");
        platform.Run = order => new RunReport { RunId = order.RunId, InstanceId = order.InstanceId, Node = node, Outcome = RunOutcome.Cancelled };
        return Task.FromResult(true);
    }

    public async Task<RunReport?> AwaitRun(string runId, TimeSpan wait, CancellationToken cancellationToken = default)
    {
        platform.Called($"await {runId}");
        var deadline = DateTimeOffset.UtcNow + wait;
        while (DateTimeOffset.UtcNow < deadline)
        {
            if (platform.Run(platform.Runs[runId]) is { } report)
            {
                return report;
            }

            await Task.Delay(20, cancellationToken);
        }

        return null;
    }

    public async Task<AnswerPart> ReadAnswer(string instanceId, string runId, long from, TimeSpan wait, CancellationToken cancellationToken = default) =>
        platform.Answer is { } answer
            ? await answer(platform.Runs[runId], from, cancellationToken)
            : new AnswerPart { Report = await AwaitRun(runId, wait, cancellationToken) };

    public Task<BodyReceipt> SendBody(string instanceId, string runId, BodyPart part, TimeSpan wait, CancellationToken cancellationToken = default)
    {
        // Never more than it wants at once, so that what is left must be sent again.
        var body = platform.Bodies.GetOrAdd(runId, _ => new MemoryStream());
        var taken = part.Data.Length > 1_000 ? 1_000 : part.Data.Length;
        Assert.Equal(body.Length, part.From);
        body.Write(part.Data.AsSpan(0, taken));
        if (part.Last && taken == part.Data.Length)
        {
            platform.Called($"body {body.Length} of {platform.Runs[runId].BodyBytes}");
        }

        return Task.FromResult(new BodyReceipt(part.From + taken, Closed: false));
    }

    public Task<LogChunk?> ReadLog(TaskKey task, int attempt, long cursor, int limit, CancellationToken cancellationToken = default)
    {
        platform.Called($"log {node} {attempt}");
        if (!platform.Logs.TryGetValue((node, task.ToString(), attempt), out var log))
        {
            return Task.FromResult<LogChunk?>(null);
        }

        var start = (int)Math.Min(cursor, log.Length);
        var part = log[start..Math.Min(log.Length, start + limit)];
        return Task.FromResult<LogChunk?>(new LogChunk(part, start + part.Length, 0, start + part.Length == log.Length));
    }
}

internal sealed class FakeRegion(FakePlatform platform) : IRegionQuotaGrain
{
    public Task<DemandAnswer> State(CapacityDemand demand, CancellationToken cancellationToken = default) => throw new NotSupportedException();

    public Task<NodeDirective> Report(NodeReport report, CancellationToken cancellationToken = default) => throw new NotSupportedException();

    public Task Release(string node, string instanceId, CancellationToken cancellationToken = default) => throw new NotSupportedException();

    public Task<QuotaStatus> SetQuota(string account, int limitMilliCards, int weight, CancellationToken cancellationToken = default)
    {
        platform.Called($"set quota {account}");
        return Task.FromResult(platform.Quotas[account] = new QuotaStatus(account, limitMilliCards, 1_500, 2, weight));
    }

    public Task<bool> DrainNode(string node, TimeSpan? within, CancellationToken cancellationToken = default) =>
        Drain(node, new Drain(DateTimeOffset.UnixEpoch, DateTimeOffset.UnixEpoch + within));

    public Task<bool> UndrainNode(string node, CancellationToken cancellationToken = default) => Drain(node, null);

    public Task<bool> DrainCard(string uuid, TimeSpan? within, CancellationToken cancellationToken = default) =>
        DrainCards(uuid, new Dictionary<string, Drain> { [uuid] = new(DateTimeOffset.UnixEpoch, DateTimeOffset.UnixEpoch + within) });

    public Task<bool> UndrainCard(string uuid, CancellationToken cancellationToken = default) => DrainCards(uuid, new Dictionary<string, Drain>());

    public Task<IReadOnlyList<string>> GetCardTypes(CancellationToken cancellationToken = default) =>
        Task.FromResult<IReadOnlyList<string>>([.. platform.Nodes.SelectMany(node => node.Report.Cards).Select(card => card.Type).Distinct()]);

    public Task<InstanceContact> GetContact(string node, string instanceId, CancellationToken cancellationToken = default) => throw new NotSupportedException();

    public Task<DeclareLostOutcome> DeclareLost(string node, CancellationToken cancellationToken = default)
    {
        platform.Called($"lost {node}");
        return Task.FromResult(platform.Nodes.Find(known => known.Report.Node == node) is not { } found ? DeclareLostOutcome.Unknown
            : found.Reachable ? DeclareLostOutcome.Reachable : DeclareLostOutcome.Done);
    }

    private Task<bool> Drain(string name, Drain? drain) => Change(node => node.Report.Node == name, node => node with { Drained = drain });

    private Task<bool> DrainCards(string uuid, Dictionary<string, Drain> drains) =>
        Change(node => node.Report.Cards.Any(card => card.Uuid == uuid), node => node with { DrainedCards = drains });

    private Task<bool> Change(Predicate<NodeStatus> which, Func<NodeStatus, NodeStatus> change)
    {
        var at = platform.Nodes.FindIndex(which);
        if (at >= 0)
        {
            platform.Nodes[at] = change(platform.Nodes[at]);
        }

        return Task.FromResult(at >= 0);
    }

    public Task<QuotaStatus> GetQuota(string account, CancellationToken cancellationToken = default)
    {
        platform.Called($"quota {account}");
        return Task.FromResult(platform.Quotas.GetValueOrDefault(account) ?? new QuotaStatus(account, 30_000, 1_500, 2));
    }

    public Task<IReadOnlyList<NodeStatus>> GetNodes(CancellationToken cancellationToken = default)
    {
        platform.Called("nodes");
        return Task.FromResult<IReadOnlyList<NodeStatus>>(platform.Nodes);
    }
}

internal sealed class FakeAccounts(FakePlatform platform) : IAccountsGrain
{
    public Task<AccountDirectory?> ReadSince(long version, CancellationToken cancellationToken = default) => Task.FromResult(
        platform.Accounts.Version == version ? null : new AccountDirectory { Version = platform.Accounts.Version, Accounts = platform.Accounts.Accounts });

    public Task<AccountChange> Create(string account, AccountSettings settings, CancellationToken cancellationToken = default) =>
        Apply(now => AccountTable.Create(now, account, settings, DateTimeOffset.UtcNow));

    public Task<AccountChange> Set(string account, AccountSettings settings, CancellationToken cancellationToken = default) =>
        Apply(now => AccountTable.Set(now, account, settings, DateTimeOffset.UtcNow));

    public Task<AccountChange> AddKey(string account, AccountKey key, string? replaced, DateTimeOffset replacedUntil, CancellationToken cancellationToken = default) =>
        Apply(now => AccountTable.AddKey(now, account, key, replaced, replacedUntil, DateTimeOffset.UtcNow));

    public Task<AccountChange> DisableKey(string account, string key, bool disabled, CancellationToken cancellationToken = default) =>
        Apply(now => AccountTable.DisableKey(now, account, key, disabled, DateTimeOffset.UtcNow));

    public Task<AccountChange> RemoveKey(string account, string key, CancellationToken cancellationToken = default) =>
        Apply(now => AccountTable.RemoveKey(now, account, key, DateTimeOffset.UtcNow));

    private Task<AccountChange> Apply(Func<AccountsState, (AccountsState Next, AccountChange Answer)> change)
    {
        lock (platform)
        {
            (platform.Accounts, var answer) = change(platform.Accounts);
            return Task.FromResult(answer);
        }
    }
}

internal sealed class FakeNonces(FakePlatform platform, string key) : INonceGrain
{
    public Task<NonceVerdict> Use(string nonce, DateTimeOffset date, TimeSpan skew, CancellationToken cancellationToken = default) =>
        Task.FromResult(platform.Nonces.GetOrAdd(key, _ => new NonceWindow(1_000, skew)).Use(nonce, date, DateTimeOffset.UtcNow));
}

internal sealed class FakeAudit(FakePlatform platform) : IAuditGrain
{
    public Task Append(AuditEntry entry, CancellationToken cancellationToken = default)
    {
        platform.Audit.Enqueue(entry);
        return Task.CompletedTask;
    }

    public Task<AuditPage> List(string? account, string? token, int limit, CancellationToken cancellationToken = default)
    {
        var offset = token is null ? 0 : int.Parse(token, CultureInfo.InvariantCulture);
        var entries = platform.Audit.Reverse().Where(entry => account is null || entry.Account == account).ToList();
        return Task.FromResult(new AuditPage(
            [.. entries.Skip(offset).Take(limit)],
            entries.Count > offset + limit ? (offset + limit).ToString(CultureInfo.InvariantCulture) : null));
    }
}

internal sealed class FakeTriggers(FakePlatform platform, string key) : ITriggersGrain
{
    private TriggersState Now => platform.Triggers.GetValueOrDefault(key) ?? new TriggersState();

    public Task<TriggerAnswer> Create(string functionId, TriggerSpec spec, CancellationToken cancellationToken = default) =>
        Apply(now => TriggerTable.Create(now, functionId, spec, Guid.NewGuid().ToString(), DateTimeOffset.UtcNow));

    public Task<TriggerAnswer> Update(string functionId, TriggerSpec spec, CancellationToken cancellationToken = default) =>
        Apply(now => TriggerTable.Update(now, functionId, spec, DateTimeOffset.UtcNow));

    public Task<TriggerAnswer> Delete(string functionId, string name, CancellationToken cancellationToken = default) =>
        Apply(now => TriggerTable.Delete(now, functionId, name));

    public Task<TriggerSnapshot?> Get(string functionId, string name, CancellationToken cancellationToken = default) =>
        Task.FromResult(TriggerTable.Of(Now, functionId).Triggers.FirstOrDefault(trigger => trigger.Spec.Name == name));

    public Task<IReadOnlyList<TriggerSnapshot>> List(string functionId, CancellationToken cancellationToken = default) =>
        Task.FromResult(TriggerTable.Of(Now, functionId).Triggers);

    public Task FunctionDeleted(string functionId, CancellationToken cancellationToken = default) => Task.CompletedTask;

    private Task<TriggerAnswer> Apply(Func<TriggersState, (TriggersState Next, TriggerAnswer Answer)> change)
    {
        lock (platform)
        {
            (platform.Triggers[key], var answer) = change(Now);
            return Task.FromResult(answer);
        }
    }
}
