using GpuTasks.Functions;
using GpuTasks.Store;

namespace GpuTasks.Tests.Storage;

public sealed class FunctionIndexOnSqliteTests(SqliteStore store) : FunctionIndexTests(store), IClassFixture<SqliteStore>;

public sealed class FunctionIndexOnPostgreSqlTests(PostgreSqlStore store) : FunctionIndexTests(store), IClassFixture<PostgreSqlStore>;

public abstract class FunctionIndexTests
{
    private readonly TestStore store;
    private readonly string account = Samples.NewAccount();

    protected FunctionIndexTests(TestStore store)
    {
        Assert.SkipWhen(store.Missing is not null, store.Missing ?? "");
        this.store = store;
    }

    [Fact]
    public async Task Functions_are_listed_by_name_in_byte_order()
    {
        await AddAsync("b", "a", "B", "a-1", "a_1", "ab");
        Assert.Equal(["B", "a", "a-1", "a_1", "ab", "b"], await ListAsync("", null, 100));
        Assert.Equal(["a", "a-1", "a_1", "ab"], await ListAsync("a", null, 100));
        Assert.Equal(["a_1"], await ListAsync("a_", null, 100));
    }

    [Fact]
    public async Task Pages_go_on_after_a_name()
    {
        await AddAsync("a", "b", "c");
        Assert.Equal(["a", "b"], await ListAsync("", null, 2));
        Assert.Equal(["c"], await ListAsync("", "b", 2));
        Assert.Equal(["b", "c"], await ListAsync("", "aa", 2));
    }

    [Fact]
    public async Task Another_accounts_functions_are_not_listed()
    {
        await AddAsync("a");
        Assert.Empty(await store.Functions.ListAsync(Samples.NewAccount(), "", null, 10, TestContext.Current.CancellationToken));
    }

    [Fact]
    public async Task A_deleted_function_is_not_listed()
    {
        await AddAsync("a", "b");
        var state = new Stored<FunctionState>();
        await store.Storage.ReadStateAsync(StoreNames.Function, Id("a"), state);
        await store.Storage.ClearStateAsync(StoreNames.Function, Id("a"), state);
        Assert.Equal(["b"], await ListAsync("", null, 10));
    }

    [Fact]
    public async Task A_function_comes_with_its_definition()
    {
        var full = Samples.FullFunction();
        full = full with { Function = full.Function! with { Account = account } };
        await store.Storage.WriteStateAsync(StoreNames.Function, Id("speech"), new Stored<FunctionState>(full));
        var read = Assert.Single(await store.Functions.ListAsync(account, "sp", null, 10, TestContext.Current.CancellationToken));
        Assert.Equal(full.Function.Spec.Environment, read.Function!.Spec.Environment);
        Assert.Equal(full.Function.AsyncConfigs, read.Function.AsyncConfigs);
    }

    [Theory]
    [InlineData("%")]
    [InlineData("a\0")]
    [InlineData("<lone>")]
    [InlineData("\udbff\udfff")]
    [InlineData("a\udbff\udfff")]
    public async Task A_prefix_of_strange_characters_matches_nothing(string prefix)
    {
        await AddAsync("a", "b");
        Assert.Empty(await ListAsync(Samples.WithLoneSurrogate(prefix), null, 10));
    }

    private async Task<IEnumerable<string>> ListAsync(string prefix, string? after, int limit) =>
        (await store.Functions.ListAsync(account, prefix, after, limit, TestContext.Current.CancellationToken)).Select(f => f.Function!.Spec.Name);

    private async Task AddAsync(params string[] names)
    {
        foreach (var name in names)
        {
            await store.Storage.WriteStateAsync(StoreNames.Function, Id(name), new Stored<FunctionState>(Samples.Function(account, name)));
        }
    }

    private GrainId Id(string name) => GrainId.Create("function", $"{account}/{name}");
}
