using Orleans.Concurrency;

namespace GpuTasks.Functions;

/// <summary>Answer to a change of a function.</summary>
public enum FunctionChange
{
    /// <summary>Done and durable.</summary>
    Done = 0,

    /// <summary>A function of this name exists already.</summary>
    AlreadyExists = 1,

    /// <summary>There is no such function, or no such config.</summary>
    NotFound = 2,

    /// <summary>It changed since it was read: read again and decide again.</summary>
    Conflict = 3,

    /// <summary>There are as many already as one function may have.</summary>
    TooMany = 4,
}

/// <summary>What a function is. Key: <c>{account}/{function}</c>.</summary>
[Alias("GpuTasks.IFunctionGrain")]
public interface IFunctionGrain : IGrainWithStringKey
{
    /// <summary>Creates the function.</summary>
    /// <returns><see cref="FunctionChange.Done"/> or <see cref="FunctionChange.AlreadyExists"/>.</returns>
    [Alias("Create")]
    Task<FunctionChange> Create(FunctionSpec spec, CancellationToken cancellationToken = default);

    /// <summary>The function as it is, or null.</summary>
    [Alias("Get"), ReadOnly]
    Task<FunctionSnapshot?> Get(CancellationToken cancellationToken = default);

    /// <summary>Replaces the definition, if <paramref name="expectedRevision"/> is still the current one.</summary>
    [Alias("Update")]
    Task<FunctionChange> Update(FunctionSpec spec, int expectedRevision, CancellationToken cancellationToken = default);

    /// <summary>Removes it: waiting tasks become Invalid, running ones are stopped, instances leave.</summary>
    [Alias("Delete")]
    Task<FunctionChange> Delete(CancellationToken cancellationToken = default);

    /// <summary>Sets the async config of a qualifier, or removes it when <paramref name="config"/> is null.</summary>
    [Alias("SetAsyncConfig")]
    Task<FunctionChange> SetAsyncConfig(string qualifier, AsyncInvokeConfig? config, int expectedRevision, CancellationToken cancellationToken = default);

    /// <summary>Sets how much of the function runs at most and at least, for all qualifiers together.</summary>
    [Alias("SetCapacity")]
    Task<FunctionChange> SetCapacity(FunctionCapacity capacity, int expectedRevision, CancellationToken cancellationToken = default);

    /// <summary>The definition that a qualifier stands for, with everything else as it is now.</summary>
    /// <param name="qualifier"><c>LATEST</c>, a version or an alias.</param>
    /// <param name="pick">Text that decides which version an alias with weights gives; the same text gives the same version.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <returns>The definition, or null if there is no such function or qualifier.</returns>
    [Alias("GetQualified"), ReadOnly]
    Task<FunctionSnapshot?> GetQualified(string qualifier, string pick, CancellationToken cancellationToken = default);

    /// <summary>Publishes the definition as it is now as the next version.</summary>
    [Alias("PublishVersion")]
    Task<PublishAnswer> PublishVersion(string description, CancellationToken cancellationToken = default);

    /// <summary>Removes a version with its configs: its waiting tasks become Invalid, running ones are stopped, instances leave.</summary>
    [Alias("DeleteVersion")]
    Task<FunctionChange> DeleteVersion(string version, int expectedRevision, CancellationToken cancellationToken = default);

    /// <summary>Sets an alias, or removes it with its configs when <paramref name="alias"/> is null.</summary>
    [Alias("SetAlias")]
    Task<FunctionChange> SetAlias(string name, FunctionAlias? alias, int expectedRevision, CancellationToken cancellationToken = default);

    /// <summary>Lets the function take calls again, or not.</summary>
    [Alias("SetRestriction")]
    Task<FunctionChange> SetRestriction(InvocationRestriction restriction, CancellationToken cancellationToken = default);

    /// <summary>Notes the digest that the image of a definition has; the first word counts, and that of another revision does not.</summary>
    /// <param name="version">Version, or null for <c>LATEST</c>.</param>
    /// <param name="specRevision">Revision of the definition that was started.</param>
    /// <param name="image">The image by digest.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    [Alias("SetResolvedImage")]
    Task<FunctionChange> SetResolvedImage(string? version, int specRevision, string image, CancellationToken cancellationToken = default);

    /// <summary>Replaces the tags; the definition stays as it is.</summary>
    [Alias("SetTags")]
    Task<FunctionChange> SetTags(IReadOnlyDictionary<string, string> tags, int expectedRevision, CancellationToken cancellationToken = default);
}
